"""What the package offers, and that asking for an error loads no torch."""

import subprocess
import sys

import pytest

import tinylora


def test_every_public_name_is_there():
    assert sorted({*tinylora._HOME_OF, "TinyLoRAError"}) == tinylora.__all__
    for name in tinylora.__all__:
        assert getattr(tinylora, name).__name__ == name
    assert set(tinylora.__all__) <= set(dir(tinylora))
    with pytest.raises(AttributeError, match="no attribute 'restores'"):
        tinylora.restores  # noqa: B018


@pytest.mark.parametrize("module", ["evaluator.cli", "evaluator.suites.importers.forms"])
def test_judge_and_importers_load_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
