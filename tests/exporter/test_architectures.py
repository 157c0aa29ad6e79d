"""Bases of other families: tiny random models of transformers' own classes, in every format."""

import json

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from exporter import verify

SIZE = 0.1
# family, dtype of the stored base, tied head
LAYOUTS = (
    ("Llama", torch.float16, True),
    ("Mistral", torch.float32, False),
    ("Gemma2", torch.float16, True),
    ("Gemma3Text", torch.bfloat16, False),
    ("Qwen3", torch.bfloat16, True),
)


def name_of(layout):
    family, dtype, tied = layout
    return f"{family}-{str(dtype).removeprefix('torch.')}-{'tied' if tied else 'untied'}"


@pytest.fixture(scope="module", params=LAYOUTS, ids=name_of)
def layout(request, tmp_path_factory):
    family, dtype, tied = request.param
    config = getattr(transformers, f"{family}Config")(
        vocab_size=251,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,  # 4 heads of 16 make 64, not 48: q and o are not square
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:  # ones or zeros at first, and then no test of them
                parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    directory = tmp_path_factory.mktemp(family) / "tiny-qwen"
    model.to(dtype).save_pretrained(directory)
    assert json.loads((directory / "config.json").read_text())["tie_word_embeddings"] == tied
    return directory


@pytest.fixture(scope="module")
def large(make_artifact):
    return make_artifact(SIZE)


def test_fp32_computes_the_float64_reference(layout, large, run, logits, reference_logits):
    wanted = reference_logits(layout, SIZE)
    exported = logits(run(layout, large, "fp32").out)
    assert (exported - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))
    assert (reference_logits(layout, 0.0) - wanted).abs().max() > 1e-3  # the delta matters


@pytest.mark.parametrize(("format", "limit"), [("nf4-embedded", 2e-3), ("bf16", 0.1)])
def test_formats_load_and_compute_what_the_restored_model_does(layout, large, run, format, limit):
    report = verify(run(layout, large, format).out, load=True, base=layout, artifact=large)
    assert report.ok, report.checks
    assert report.logits.residual < limit
