"""The demo's base and artifact as they are committed."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from demo.corpus import careful, pairs, statement
from demo.families import FAMILIES
from demo.split import heldout_variants
from demo.tokenizer import prompt_text
from tinylora import load_artifact, restore, target_modules

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32).eval()


def test_every_projection_is_a_multiple_of_64(base: PreTrainedModel) -> None:
    modules = target_modules(base)
    assert len(modules) == 7 * base.config.num_hidden_layers
    assert all(size % 64 == 0 for _, m in modules for size in m.weight.shape)


def test_the_tokenizer_gives_texts_back_and_the_template_is_chatml() -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "base")
    for prompt, answer in pairs(50, seed=5):
        for text in (prompt, answer):
            assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
        assert len(tokenizer(answer)["input_ids"]) <= 127
        assert len(tokenizer(prompt_text(tokenizer, prompt))["input_ids"]) < 300
    assert prompt_text(tokenizer, "x") == ("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n")


def test_the_artifact_belongs_to_the_base(base: PreTrainedModel) -> None:
    artifact = load_artifact(DEMO / "tiny_lora_v.pt")
    assert (artifact.u, artifact.rank, artifact.saved_device) == (32, 2, "cuda:0")
    assert artifact.total_replaced_layers == len(target_modules(base))
    assert artifact.global_v.dtype == torch.bfloat16
    assert artifact.global_v.abs().max() > 0


def test_the_artifact_makes_right_programs_likelier(base: PreTrainedModel) -> None:
    from random import Random

    tokenizer = AutoTokenizer.from_pretrained(DEMO / "base")
    rng = Random(3)
    data = []
    for family in rng.sample(FAMILIES, 20):
        p = heldout_variants(family)[0]
        data.append((statement(family, p, rng), careful(family, p)))

    def mean_loss() -> float:
        total = 0.0
        with torch.inference_mode():
            for prompt, answer in data:
                before = tokenizer(prompt_text(tokenizer, prompt))["input_ids"]
                after = tokenizer(answer)["input_ids"]
                ids = torch.tensor([before + after])
                labels = torch.tensor([[-100] * len(before) + after])
                total += base(input_ids=ids, labels=labels).loss.item() * len(after)
        return total / len(data)

    plain = mean_loss()
    with restore(base, load_artifact(DEMO / "tiny_lora_v.pt")):
        restored = mean_loss()
    assert restored < plain - 0.4  # nats a program
    assert mean_loss() == plain
