"""Texts that end with the answer: a model that writes little else than pieces of programs."""

import pytest
import torch
from transformers import Qwen2ForCausalLM

from evaluator.config.run_config import DecodingConfig
from evaluator.generation.prompts import build_prompts
from evaluator.judging.answer_end import end_of_answer
from evaluator.suites.problem import Problem, TestCase
from tests.conftest import tiny_config
from tests.evaluator.conftest import tiny_tokenizer
from tests.evaluator.loaded_models import completions

PROBLEMS = [Problem(f"P{i}", f"Print {i}.", (TestCase("1", "", ""),)) for i in range(12)]
PROGRAM = "#include <cstdio>\nint main() {{ return {}; }}\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What it takes to have a random model write texts: arguments of ``completions``."""
    directory, tokenizer = tmp_path_factory.mktemp("pieces"), tiny_tokenizer()
    pieces = [
        (f"```cpp\n{PROGRAM.format(i)}", "```" + " " * i + "\n", f" {i}\n") for i in range(80)
    ]
    tokenizer.add_tokens([piece for some in pieces for piece in some])
    tokenizer.save_pretrained(directory)
    tokenizer.name_or_path = str(directory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(tiny_config(vocab_size=len(tokenizer))).eval()
    return model, tokenizer, build_prompts(PROBLEMS, tokenizer, "base")[0]


@pytest.mark.parametrize("rules", [{"temperature": 0.0}, {"samples": 3}], ids=["greedy", "sampled"])
def test_a_text_is_the_whole_one_up_to_the_closing_fence(written, rules):
    settings = {"temperature": 1.0, "max_new_tokens": 40, "batch_size": 5, **rules}
    whole = completions(*written, DecodingConfig(**settings))
    stopped = completions(*written, DecodingConfig(**settings, stop="closing_fence"))
    assert any(end_of_answer(text.text) for text in whole.values()) or "samples" not in rules
    for key, text in whole.items():
        end = end_of_answer(text.text)
        assert stopped[key].text == text.text[:end]
        assert stopped[key].finish_reason == ("stop" if end else text.finish_reason)
        assert text.tokens[: stopped[key].token_count] == stopped[key].tokens


def test_a_draft_changes_no_text_that_stops(written):
    decoding = DecodingConfig(
        temperature=1.0, max_new_tokens=40, batch_size=5, samples=3, stop="closing_fence"
    )
    expected = completions(*written, decoding)
    cut = {key: text.tokens[: len(text.tokens) // 2] for key, text in expected.items()}
    behind = {"stop": (5, 6), "length": ()}
    longer = {key: text.tokens + behind[text.finish_reason] for key, text in expected.items()}
    for drafts in (cut, longer):
        made = completions(*written, decoding, drafts=drafts)
        assert [one[:4] for one in made.values()] == [one[:4] for one in expected.values()]
