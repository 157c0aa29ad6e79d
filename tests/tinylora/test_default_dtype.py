"""No number depends on ``torch.set_default_dtype``, which belongs to the caller's process."""

import torch
from torch import nn

from tests.default_dtype import default_dtype
from tests.tinylora.conftest import save_vector
from tinylora import (
    DeltaOptions,
    QuantizedWeight,
    draw_projections,
    fast_factors,
    load_artifact,
    restore,
)
from tinylora.adapters.peft.deltas import draw_projection


def everything(file):
    """Named tensors: quantized, factorized, drawn; restored by exact factors and CUDA's stream."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn((300, 256), generator=generator, dtype=torch.float32) * 0.03
    kept = QuantizedWeight.quantize(W.to(torch.bfloat16))
    yield from (kept.to_tensors("w") | {"values": kept.dequantize(torch.float32)}).items()
    # the small weight takes the Gram matrix, the one of rank 4 the Krylov method
    low = W[:, :4] @ W[:4]
    for way, found in (("gram", fast_factors(W, 2)), ("krylov", fast_factors(low, 2))):
        yield from ((f"{way} {part}", getattr(found, part)) for part in ("U", "S", "Vh"))
    yield "cpu", draw_projections(["a", "b"], 8, 2, 7, formula="diagonal", rng="cpu")
    yield "peft", draw_projection(7, 8, 2)
    for numerics in ("fp32", "trainer"):
        model = nn.Module()
        model.q_proj = nn.Linear(256, 300, bias=False, dtype=torch.float32)
        model.q_proj.weight.data = W
        with torch.no_grad(), restore(model, load_artifact(file), DeltaOptions(numerics=numerics)):
            yield f"{numerics} delta", model.q_proj.delta()
            yield f"{numerics} forward", model.q_proj(W[:, :256])


def test_no_number_depends_on_the_default_dtype(tmp_path):
    file = save_vector(tmp_path / "v.pt", u=8, total_replaced_layers=1)
    with default_dtype(torch.float32):
        expected = dict(everything(file))
    with default_dtype(torch.bfloat16):
        found = dict(everything(file))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
