"""What an export adds the delta to."""

import pytest

from exporter.errors import PlanError


def test_a_4bit_base_has_no_original_weights(base_4bit, artifact, run, tmp_path):
    with pytest.raises(PlanError, match="needs the 16-bit base"):
        run(base_4bit, artifact, "fp32", fold_onto="original")
    assert list(tmp_path.iterdir()) == []
