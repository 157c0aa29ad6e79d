"""No number depends on ``torch.set_default_dtype``, which belongs to the caller's process."""

import pytest
import torch
from torch import nn

from tests.default_dtype import default_dtype
from tinylora import (
    DeltaOptions,
    QuantizedWeight,
    draw_projections,
    exact_factors,
    fast_factors,
    load_artifact,
    restore,
    save_artifact,
)
from tinylora.adapters.peft.deltas import draw_projection
from tinylora.weights import blockwise


def weight():
    generator = torch.Generator().manual_seed(0)
    return torch.randn((300, 256), generator=generator, dtype=torch.float32) * 0.03


def quantized():
    found = {}
    for quant_type in ("nf4", "fp4"):
        kept = QuantizedWeight.quantize(weight().to(torch.bfloat16), quant_type=quant_type)
        found |= kept.to_tensors(quant_type)
        found[f"{quant_type}.values"] = kept.dequantize(torch.float32)
    return found


def factorized():
    # the small weight takes the Gram matrix, the one of rank 4 the Krylov method
    thin = weight()[:, :4] @ weight()[:4]
    made = {"gram": (fast_factors, weight()), "krylov": (fast_factors, thin),
            "exact": (exact_factors, weight())}  # fmt: skip
    for name, (factors, matrix) in made.items():
        found = factors(matrix, 2)
        yield from ((f"{name}.{part}", getattr(found, part)) for part in ("U", "S", "Vh"))


def drawn():
    for formula in ("full", "diagonal"):
        for rng in ("cpu", "cuda"):
            yield (
                f"{formula}.{rng}",
                draw_projections(["a", "b"], 8, 2, 7, formula=formula, rng=rng),
            )
    yield "peft", draw_projection(7, 8, 2)


def restored(tmp_path):
    path = tmp_path / "v.pt"
    vector = torch.arange(8) * 1e-2
    save_artifact(
        path, global_v=vector.float(), rank=2, seed=1, model_id="m", total_replaced_layers=1,
        formula="full",
    )  # fmt: skip
    for numerics in ("fp32", "trainer"):
        model = nn.Module()
        model.q_proj = nn.Linear(256, 300, bias=False, dtype=torch.float32)
        model.q_proj.weight.data = weight()
        with torch.no_grad(), restore(model, load_artifact(path), DeltaOptions(numerics=numerics)):
            yield f"{numerics}.delta", model.q_proj.delta()
            yield f"{numerics}.forward", model.q_proj(weight())


def everything(tmp_path):
    return quantized() | dict(factorized()) | dict(drawn()) | dict(restored(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_no_number_depends_on_the_default_dtype(tmp_path, dtype):
    with default_dtype(torch.float32):
        expected = everything(tmp_path)
    with default_dtype(dtype):
        found = everything(tmp_path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_bitsandbytes_is_asked_with_the_same_numbers(dtype):
    edges = torch.linspace(-0.9, 0.9, 15, dtype=torch.float32)
    expected = blockwise._probes(edges)
    with default_dtype(dtype):
        found = blockwise._probes(edges)
    assert [p.dtype for p in found] == [torch.float32, torch.bfloat16, torch.float16]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
