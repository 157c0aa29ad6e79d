import torch
from torch import nn

from evaluator.generation.load_checks import compute_in


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


def test_a_constant_of_gemma_is_the_same_in_every_arm():
    """The factor of its embeddings, √48 here, is stored nowhere and made in the load's dtype."""
    model = nn.Sequential(nn.Embedding(4, 4))
    model[0].scalar_embed_scale = 48**0.5
    model[0].register_buffer("embed_scale", torch.tensor(48**0.5, dtype=torch.bfloat16))
    compute_in(model, torch.float32)
    assert model[0].embed_scale == torch.tensor(48**0.5)
