"""The 4-bit format against bitsandbytes and against a float64 reading of the format."""

import json

import pytest
import torch

from tests.tinylora.conftest import as_bitsandbytes
from tinylora import QuantizedWeight
from tinylora.errors import QuantizedWeightError

SHAPES = [(64, 64), (192, 100), (33, 7), (1, 1), (128, 520)]
STATE = "w.quant_state.bitsandbytes__nf4"


def weight(shape):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=generator) * 0.02).bfloat16()


@pytest.fixture
def tensors():
    """What a checkpoint holds of the weight ``w``."""
    return QuantizedWeight.quantize(weight((64, 64))).to_tensors("w")


def read_by_the_format(tensors, name):
    """Dequantize in float64 by the table in the format's description, element by element."""
    (state_key,) = [k for k in tensors if ".quant_state." in k]
    state = json.loads(bytes(tensors[state_key].tolist()))
    data = tensors[name].flatten().tolist()
    book = tensors[f"{name}.quant_map"].double().tolist()
    absmax = tensors[f"{name}.absmax"].tolist()
    if "nested_blocksize" in state:
        nested_book = tensors[f"{name}.nested_quant_map"].double().tolist()
        nested = tensors[f"{name}.nested_absmax"].double().tolist()
        absmax = [
            nested_book[byte] * nested[i // state["nested_blocksize"]] + state["nested_offset"]
            for i, byte in enumerate(absmax)
        ]
    out, inn = state["shape"]
    values = []
    for i in range(out * inn):
        code = data[i // 2] >> 4 if i % 2 == 0 else data[i // 2] & 15
        values.append(book[code] * absmax[i // state["blocksize"]])
    return torch.tensor(values, dtype=torch.float64).view(out, inn)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("blocksize", [64, 128])
def test_quantized_as_bitsandbytes_and_read_as_described(
    shape, quant_type, double_quant, blocksize
):
    ours, values = as_bitsandbytes(weight(shape), quant_type, blocksize, double_quant)
    assert torch.equal(ours.dequantize(), values)
    reference = read_by_the_format(ours.to_tensors("w"), "w")
    assert torch.allclose(ours.dequantize(torch.float32).double(), reference, rtol=3e-7, atol=1e-9)


def test_the_digest_follows_the_values_and_not_the_spelling_of_the_state(tensors):
    digest = QuantizedWeight.quantize(weight((64, 64))).digest()
    respelled = json.dumps(json.loads(bytes(tensors[STATE].tolist())), indent=2).encode()
    tensors[STATE] = torch.tensor(list(respelled), dtype=torch.uint8)
    assert QuantizedWeight.from_tensors("w", tensors).digest() == digest
    for name in ("w", "w.absmax"):
        changed = tensors | {name: tensors[name].clone()}
        changed[name].view(-1)[0] ^= 1
        assert QuantizedWeight.from_tensors("w", changed).digest() != digest


@pytest.mark.parametrize(
    "missing", ["w.absmax", "w.quant_map", "w.nested_absmax", "w.nested_quant_map", "w.quant_state"]
)
def test_a_missing_companion_is_named(missing, tensors):
    kept = {k: v for k, v in tensors.items() if not k.startswith(missing)}
    with pytest.raises(QuantizedWeightError, match=missing):
        QuantizedWeight.from_tensors("w", kept)


@pytest.mark.parametrize("key", ["w", "w.absmax", "w.nested_absmax"])
def test_a_companion_of_the_wrong_size_is_named(key, tensors):
    tensors[key] = tensors[key][:-1]
    with pytest.raises(QuantizedWeightError, match=f"{key}:"):
        QuantizedWeight.from_tensors("w", tensors)


@pytest.mark.parametrize(
    "change",
    [
        {"quant_type": "int4"},
        {"blocksize": 3},
        {"shape": [-64, -64]},
        {"nested_offset": ...},
        {"nested_offset": "x"},
        {"nested_blocksize": 0},
        {"nested_blocksize": 256.5},
        "not json",
        "{}",
        torch.full((4,), 1000),
    ],
    ids=str,
)
def test_a_damaged_state_is_named(change, tensors):
    if isinstance(change, dict):
        state = json.loads(bytes(tensors[STATE].tolist())) | change
        change = json.dumps({name: value for name, value in state.items() if value is not ...})
    raw = torch.tensor(list(change.encode())).byte() if isinstance(change, str) else change
    with pytest.raises(QuantizedWeightError, match="w: quantization state"):
        QuantizedWeight.from_tensors("w", tensors | {STATE: raw})


@pytest.mark.parametrize("double", [True, False])
def test_a_weight_goes_to_a_device_as_a_whole(double):
    weight = QuantizedWeight.quantize(torch.randn(8, 64), double_quant=double)
    assert weight.to(torch.device("cpu")) is weight
    elsewhere = weight.to(torch.device("meta"))
    assert elsewhere.device.type == "meta"
    for name, tensor in weight.to_tensors("w").items():
        moved = elsewhere.to_tensors("w")[name]
        assert (moved.shape, moved.dtype) == (tensor.shape, tensor.dtype)
        assert moved.is_meta or name.startswith("w.quant_state")  # which is text


@pytest.mark.parametrize("shape", [(7, 64), (5, 13), (9, 100), (300, 70)])
@pytest.mark.parametrize("blocksize", [32, 64, 4096])
def test_some_rows_are_those_of_the_whole(shape, blocksize):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    weight = QuantizedWeight.quantize(values, blocksize=blocksize)
    whole, height = weight.dequantize(), shape[0]
    for start, stop in ((0, 1), (1, 3), (height - 1, height), (0, height), (2, 2)):
        found = weight.rows(slice(start, stop))
        assert found.dtype == torch.bfloat16 and torch.equal(found, whole[start:stop])
