"""Which tokens are compared, and in which batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.generation.prompts import Prompt
from evaluator.store.records import GenerationRecord
from evaluator.tokens import texts as token_texts
from evaluator.tokens.texts import (
    MOST_OF_A_TEXT,
    ScoredText,
    choose_texts,
    plan_repeat,
    plan_text_batches,
)
from tests.evaluator.conftest import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
FIRST = len(TOKENIZER("<|user|>ask<|assistant|>")["input_ids"])


def chosen(texts, max_new_tokens=100, max_tokens=10_000):
    """Texts of completions given as (text, finish reason)."""
    ask = "<|user|>ask<|assistant|>"
    ids = tuple(TOKENIZER(ask, add_special_tokens=False)["input_ids"])
    prompts = [Prompt(f"P{i}", ask, ids) for i in range(len(texts))]
    generations = {
        (arm, f"P{i}", sample): GenerationRecord(arm, f"P{i}", sample, text, 0, reason, 0.0)
        for arm, sample in (("ref", 0), ("ref", 1), ("other", 0))
        for i, (text, reason) in enumerate(texts)
        for text in [text if (arm, sample) == ("ref", 0) else "wrong"]
    }
    return choose_texts("ref", prompts, generations, TOKENIZER, max_new_tokens, max_tokens)


def predicted(text):
    """The tokens that the compared positions predict, as a string; the end as ``$``."""
    padded = [*text.token_ids[1:], None]
    tokens = [padded[position] for position in text.positions]
    return "".join("$" if token is None else TOKENIZER.decode([token]) for token in tokens)


def test_every_prediction_of_the_completion_and_of_its_end_is_compared():
    stopped, cut, empty, none = chosen(
        [("abc", "stop"), ("abc", "length"), ("", "stop"), ("z", "stop")]
    )
    assert [predicted(text) for text in (stopped, empty, none)] == ["abc$", "$", "z$"]
    # the last token of a text that was cut is predicted, and nothing after it
    assert len(cut.positions) == 3 and cut.positions == stopped.positions[:3]
    assert TOKENIZER.decode(cut.token_ids) == "<|user|>ask<|assistant|>ab"
    assert stopped.positions[0] == FIRST - 1


def test_texts_without_a_prediction_and_tokens_beyond_limits_are_left_out(monkeypatch):
    (only,) = chosen([("", "length"), ("abcdef", "length")], max_new_tokens=4)
    assert only.problem == "P1" and len(only.positions) == 4
    monkeypatch.setattr(token_texts, "MOST_TEXTS", 3)
    monkeypatch.setattr(token_texts, "MOST_OF_A_TEXT", 5)
    texts = chosen([("x" * 49, "stop")] * 9)
    assert [text.problem for text in texts] == ["P1", "P4", "P7"]
    assert {text.positions for text in texts} == {tuple(FIRST - 1 + i for i in range(5, 50, 10))}


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(1, 200))
def test_the_limit_is_kept_and_spread_over_all_texts(lengths, most):
    texts = chosen([("x" * n, "stop") for n in lengths], max_tokens=most)
    total = sum(length + 1 for length in lengths)
    assert sum(len(text.positions) for text in texts) == min(total, most)
    for text in texts:
        share = (lengths[int(text.problem[1:])] + 1) * min(1, most / total)
        assert abs(len(text.positions) - share) < 1 + 1e-9
        assert text.positions == tuple(sorted(set(text.positions)))
        assert len(text.token_ids) == text.positions[-1] + 1


@pytest.mark.parametrize("plan", [plan_text_batches, plan_repeat])
@given(sizes=st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 512)), max_size=40))
def test_batches_hold_every_text_once_within_bounds(plan, sizes):
    texts = [
        ScoredText((0,) * length, tuple(range(min(length, scored))), f"P{i}", 0)
        for i, (length, scored) in enumerate(sizes)
    ]
    batches = plan(texts)
    assert sorted(text.problem for batch in batches for text in batch) == sorted(
        text.problem for text in texts
    )
    for batch in batches:
        width = max((len(text.token_ids) for text in batch), default=0)
        assert len(batch) == 1 or width * len(batch) <= 4096
        assert sum(len(text.positions) for text in batch) <= MOST_OF_A_TEXT
        assert len(batch) <= 3 or plan is plan_text_batches
