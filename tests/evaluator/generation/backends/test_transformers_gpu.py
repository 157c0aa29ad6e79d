"""Nothing that a GPU generates with is left on the CPU."""

from random import Random
from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2ForCausalLM

from evaluator.config.run_config import DecodingConfig
from evaluator.generation.prompts import build_prompts
from evaluator.suites.problem import Problem, TestCase
from tests.conftest import tiny_config
from tests.evaluator.loaded_models import completions
from tests.fake_gpu import CUDA, fake_gpu
from tinylora.models.chat import load_tokenizer

PROBLEMS = [Problem(f"P{i}", "Print a" + "!" * i, (TestCase("1", "", ""),)) for i in range(3)]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("answer", [True, False, Random(0)], ids=["yes", "no", "any"])
def test_generation_stays_on_the_gpu(chat_base, temperature, answer, monkeypatch):
    """Greedy and with paired noise, in padded batches."""
    # the question whether logits are numbers, which must be answered with yes
    numbers = SimpleNamespace(any=lambda: False)
    monkeypatch.setattr(
        "evaluator.generation.backends.transformers.torch.isnan", lambda logits: numbers
    )
    tokenizer = load_tokenizer(chat_base)
    decoding = DecodingConfig(
        temperature=temperature, top_k=5, top_p=0.9, max_new_tokens=4, batch_size=2
    )
    prompts, _ = build_prompts(PROBLEMS, tokenizer, "base")
    with fake_gpu(answer), CUDA:
        model = Qwen2ForCausalLM._from_config(tiny_config(), dtype=torch.bfloat16).eval()
    with fake_gpu(answer):
        made = completions(model, tokenizer, prompts, decoding)
    assert len(made) == len(PROBLEMS)
