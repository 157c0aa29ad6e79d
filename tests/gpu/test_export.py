"""An export made on the device, beside the same on the CPU."""

import json

import pytest
import torch
from safetensors.torch import load_file

from exporter import ExportRequest, export
from tinylora import DeltaOptions, QuantizedWeight

pytest.importorskip("bitsandbytes")


@pytest.fixture
def made(tiny_base, write_artifact, tmp_path):
    """``made(size, device, **fields)``: the report, and the tensors of the weight file."""

    def make(size, device, **fields):
        out, path = tmp_path / device, write_artifact(size)
        request = ExportRequest(base=tiny_base, artifact=path, out=out, device=device, **fields)
        return export(request), load_file(out / "model.safetensors")

    return make


def test_weights_that_do_not_move_are_the_same_bytes(made):
    host, device = (made(1e-9, where)[0] for where in ("cpu", "cuda"))
    assert host.files["model.safetensors"] == device.files["model.safetensors"]
    manifest = json.loads((device.out / "export_manifest.json").read_text())
    assert manifest["options"]["device"] == "cuda"


@pytest.mark.parametrize("svd", ["exact", "fast"])
@pytest.mark.parametrize("requantize", ["preserve", "recompute"])
def test_codes_that_move_are_the_same_but_for_few(made, svd, requantize, record_property):
    fields = {"options": DeltaOptions(svd=svd), "requantize": requantize}
    host, on_host = made(5e-2, "cpu", **fields)
    device, on_device = made(5e-2, "cuda", **fields)
    moved, differ = 0, 0
    for module in host.fidelity.modules:
        name = f"{module.module}.weight"
        one, other = (QuantizedWeight.from_tensors(name, t) for t in (on_host, on_device))
        moved += module.codes_moved
        differ += int((one.codes() != other.codes()).sum())
    record_property("codes moved", moved)
    record_property("codes that differ", differ)
    assert moved > 100
    # a fast factor may fall on the other side of an edge of bf16; an exact one is the CPU's
    assert differ <= (0.02 * moved if svd == "fast" else 2)
    assert device.fidelity.total.capture == pytest.approx(host.fidelity.total.capture, rel=1e-2)


@pytest.mark.parametrize("format_", ["bf16", "fp32"])
def test_dense_weights(made, format_):
    fields = {"format": format_, "options": DeltaOptions(svd="exact")}
    host, on_host = made(5e-2, "cpu", **fields)
    device, on_device = made(5e-2, "cuda", **fields)
    assert on_host.keys() == on_device.keys()
    step = torch.finfo(on_host["model.embed_tokens.weight"].dtype).eps
    for name, tensor in on_host.items():
        assert torch.allclose(tensor.float(), on_device[name].float(), rtol=step, atol=1e-8), name
    assert device.fidelity.total.capture == pytest.approx(host.fidelity.total.capture, rel=1e-4)


def test_adapters_hold_the_same_factors(made):
    fields = {"format": "nf4-embedded", "options": DeltaOptions(svd="exact")}
    host, _ = made(5e-2, "cpu", **fields)
    device, _ = made(5e-2, "cuda", **fields)
    for name in ("model.safetensors", "adapter_model.safetensors"):
        assert host.files[name] == device.files[name]
