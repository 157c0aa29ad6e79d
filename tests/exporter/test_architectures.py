"""Bases of other families: tiny random models of transformers' own classes, in every format."""

import json

import pytest
import torch

from exporter import verify
from tests.conftest import save_random_family

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
    directory = tmp_path_factory.mktemp(family) / "tiny-qwen"
    settings = {"vocab_size": 251, "eos_token_id": 1, "tie_word_embeddings": tied}
    save_random_family(directory, family, dtype, **settings)
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
