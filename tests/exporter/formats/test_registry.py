"""A format of one's own: a class, and a line in the registry."""

from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

from exporter import verify
from exporter.errors import RequestError
from exporter.formats.dense import Dense
from exporter.formats.registry import FORMATS, format_named


class Fp64(Dense):
    """float64."""

    name: ClassVar[str] = "fp64"
    content: ClassVar[str] = "The delta is merged into float64 weights."
    dtype: ClassVar[torch.dtype] = torch.float64


def test_a_new_format_is_exported_and_verified(run, base, artifact, references, monkeypatch):
    monkeypatch.setitem(FORMATS, Fp64.name, f"{__name__}:Fp64")
    report = run(base, artifact, "fp64")
    assert report.format == "fp64" and report.verdict == "kept"
    assert "float64 weights" in (report.out / "README.md").read_text()
    found = verify(report.out, load=True, base=base, artifact=artifact)
    assert found.ok and found.format == "fp64"
    assert found.logits.residual < 1e-3
    truth, stored = references(base, 3e-3), load_file(report.out / "model.safetensors")
    for name, delta in truth["delta"].items():
        assert stored[name].dtype == torch.float64
        torch.testing.assert_close(stored[name], truth["seen"][name] + delta, rtol=0, atol=1e-6)


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(RequestError, match="'fp64' is unknown; the formats are nf4, nf4-mixed"):
        format_named("fp64")
