"""On the embedded demo base: texts do not depend on the batch. Skipped where it is absent."""

from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from evaluator.config.run_config import ArmConfig, DecodingConfig
from evaluator.generation.prompts import build_prompts
from evaluator.suites.suite import load_suite
from tests.evaluator.loaded_models import completions, loaded
from tinylora.models.chat import load_tokenizer

DEMO = Path(__file__).resolve().parents[4] / "demo"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(model, tokenizer, prompts) of the demo."""
    base = DEMO / "base"
    if not (base / "config.json").is_file():
        pytest.skip("the demo base is not in this checkout")
    arm = ArmConfig(name="base", kind="base", model=str(base), load="nf4")
    tokenizer = load_tokenizer(base)
    problems = load_suite(DEMO / "suite" / "heldout").problems[::16]
    prompts = build_prompts(problems, tokenizer, "base")
    with loaded(arm, tmp_path_factory.mktemp("factors")) as model:
        yield model.model, tokenizer, prompts


def texts_of(model, tokenizer, prompts, **decoding):
    settings = DecodingConfig(**decoding)
    made = completions(model, tokenizer, prompts, settings)
    return {problem: completion.text for (problem, _), completion in made.items()}


@pytest.mark.slow
def test_batch_sizes_1_and_16_write_the_same_texts(demo):
    settings = {"temperature": 0.8, "max_new_tokens": 128}
    alone = texts_of(*demo, **settings, batch_size=1)
    together = texts_of(*demo, **settings, batch_size=16)
    equal = sum(alone[key] == together[key] for key in alone)
    assert equal >= 0.99 * len(alone), f"{equal} of {len(alone)} texts are equal"


def test_a_greedy_repetition_penalty_is_that_of_transformers(demo):
    """A padded batch against transformers' own generate(), one prompt at a time."""
    model, tokenizer, prompts = demo
    some = prompts[:4]
    settings = {"max_new_tokens": 40, "batch_size": 4}
    made = texts_of(model, tokenizer, some, **settings, repetition_penalty=2.0)
    assert made != texts_of(model, tokenizer, some, **settings)
    end = tokenizer.eos_token_id
    for prompt in some:
        ids = torch.tensor([prompt.token_ids])
        own = GenerationConfig(
            do_sample=False, max_new_tokens=40, eos_token_id=end, repetition_penalty=2.0
        )
        written = model.generate(ids, generation_config=own)[0, ids.shape[1] :].tolist()
        written = written[: written.index(end)] if end in written else written
        assert made[prompt.problem] == tokenizer.decode(written)
