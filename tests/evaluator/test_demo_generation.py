"""On the embedded demo base: texts do not depend on the batch. Skipped where it is absent."""

from pathlib import Path

import pytest
import torch

from evaluator.config import ArmConfig, DecodingConfig
from evaluator.generation.checkpoints import find_checkpoint
from evaluator.generation.generate import Generator, end_and_pad, plan_batches
from evaluator.generation.models import load_tokenizer, loaded_model
from evaluator.generation.prompts import build_prompts
from evaluator.suites.suite import load_suite

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.mark.slow
def test_batch_sizes_1_and_16_write_the_same_texts(tmp_path):
    base = DEMO / "base"
    if not (base / "config.json").is_file():
        pytest.skip("the demo base is not in this checkout")
    arm = ArmConfig(name="base", kind="base", model=str(base), load="nf4")
    tokenizer = load_tokenizer(base)
    problems = load_suite(DEMO / "suite" / "heldout").problems[::16]
    prompts = build_prompts(problems, tokenizer, "base")
    texts = []
    with loaded_model(arm, find_checkpoint(arm), "float32", torch.device("cpu"), tmp_path) as model:
        ends, pad = end_and_pad(model, tokenizer, "base")
        for batch_size in (1, 16):
            decoding = DecodingConfig(temperature=0.8, max_new_tokens=128, batch_size=batch_size)
            generator = Generator("base", model, tokenizer, decoding, 0, ends, pad)
            made = generator.complete(plan_batches(prompts, decoding))
            texts.append({record.key: record.text for batch in made for record in batch})
    alone, together = texts
    equal = sum(alone[key] == together[key] for key in alone)
    assert equal >= 0.99 * len(alone), f"{equal} of {len(alone)} texts are equal"
