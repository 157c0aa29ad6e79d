"""Exports have the same bytes under any default dtype, and beside another export."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from exporter import ExportRequest, export
from tests.default_dtype import default_dtype
from tinylora import DeltaOptions


@pytest.fixture(scope="module")
def contents(talking, make_artifact, texts, tmp_path_factory):
    """``contents(name)``: digests of an export that calibrates and chooses, and its residual."""
    artifact, prompts, folder = make_artifact(3e-2), texts(1), tmp_path_factory.mktemp("same")
    fields = {
        "format": "nf4-mixed",
        "requantize": "calibrated",
        "options": DeltaOptions(svd="fast"),
        "prompts": prompts,
        "check_prompts": prompts,
        "target_residual": 0.3,
    }

    def make(name):
        report = export(ExportRequest(talking, artifact, folder / name, **fields))
        weights = {name: report.files[name] for name in report.files if "safetensors" in name}
        return weights, report.fidelity.total.residual

    return make


@pytest.fixture(scope="module")
def expected(contents):
    return contents("expected")


def test_an_export_is_the_same_under_another_default_dtype(contents, expected):
    with default_dtype(torch.bfloat16):
        assert contents("found") == expected
        assert torch.get_default_dtype() == torch.bfloat16


def test_two_exports_at_once(contents, expected):
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(contents, ["one", "other"])) == [expected, expected]
    assert torch.get_default_dtype() == torch.float32
