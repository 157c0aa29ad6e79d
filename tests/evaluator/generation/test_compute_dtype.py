import torch
from torch import nn

from evaluator.generation.compute_dtype import compute_in


def test_layers_that_hold_codes_are_left_to_their_library():
    layer = nn.Linear(4, 4, dtype=torch.bfloat16)
    codes = torch.ones(4, 4).to(torch.float8_e4m3fn)
    layer.weight = nn.Parameter(codes, requires_grad=False)
    model = nn.Sequential(layer, nn.LayerNorm(4, dtype=torch.bfloat16))
    model.hf_quantizer = object()  # as transformers marks a quantized model
    compute_in(model, torch.float32)
    assert layer.weight.dtype is torch.float8_e4m3fn
    assert layer.bias.dtype is torch.bfloat16
    assert model[1].weight.dtype is torch.float32
