"""How problems are asked: system message, template, presets, and what cannot be asked."""

import dataclasses
import json
from pathlib import Path

import pytest

from evaluator.config.prompt_config import PromptConfig
from evaluator.errors import GenerationError, ModelError
from evaluator.generation.prompts import (
    LeftOut,
    Prompt,
    build_prompts,
    check_prompts_fit,
    prompts_digest,
)
from evaluator.suites.problem import Problem, TestCase
from evaluator.suites.suite import load_suite
from tests.evaluator.conftest import tiny_tokenizer

TESTS = (TestCase("1", "", ""),)
ASKED = Problem("P1", "Print a.", TESTS)
USER = "<u>Print a.</u><a>"
SHARED = Path(__file__).resolve().parents[4] / "shared"

# Ways in which chat templates treat system messages, written after those of well-known models.
EACH = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}</{{ m.role[0] }}>{% endfor %}"
REST = "{% for m in messages if m.role != 'system' %}<u>{{ m.content }}</u>{% endfor %}"
ANSWER = "{% if add_generation_prompt %}<a>{% endif %}"
GIVEN = "{% set s = messages[0].content if messages[0].role == 'system' else '' %}"
KINDS = {
    "says nothing by itself": EACH + ANSWER,
    "has a default": (
        "{{ bos_token }}{% if messages[0].role != 'system' %}<s>I am Q.</s>{% endif %}"
        + EACH
        + ANSWER
    ),
    "adds the date": GIVEN + "{{ bos_token }}<s>Today.\n\n{{ s }}</s>" + REST + ANSWER,
    "has no mark for it": GIVEN + "{{ bos_token }}{{ s }}" + REST + ANSWER,
    "puts it into the question": (
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content + '\n\n' %}"
        "{% set messages = messages[1:] %}{% if not messages %}{{ raise_exception('no user') }}"
        "{% endif %}{% else %}{% set s = '' %}{% endif %}"
        "{{ bos_token }}<u>{{ s }}{{ messages[0].content }}</u>" + ANSWER
    ),
    "refuses it": (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + EACH
        + ANSWER
    ),
}


def tokenizer_with(template):
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "<|bos|>"
    tokenizer.chat_template = template
    return tokenizer


def text_of(template, **asking):
    (prompt,) = build_prompts([ASKED], tokenizer_with(template), "base", PromptConfig(**asking))
    return prompt.text.removeprefix("<|bos|>")


@pytest.mark.parametrize("kind", KINDS)
def test_none_asks_as_if_the_template_had_no_system_message(kind):
    template = KINDS[kind]
    (prompt,) = build_prompts([ASKED], tokenizer_with(template), "b", PromptConfig(system="none"))
    assert prompt.text == ("<|bos|>" if "bos_token" in template else "") + USER


def test_without_a_system_message_the_templates_own_stands():
    assert text_of(KINDS["has a default"]) == f"<s>I am Q.</s>{USER}"
    assert text_of(KINDS["has a default"], system="default") == f"<s>I am Q.</s>{USER}"


def test_a_system_message_may_be_any_text_and_empty():
    assert text_of(KINDS["has a default"], system="Write C++.") == f"<s>Write C++.</s>{USER}"
    assert text_of(KINDS["has a default"], system="") == f"<s></s>{USER}"
    with pytest.raises(ModelError, match="arm x: no problem .*'P1'.*no system role"):
        build_prompts(
            [ASKED], tokenizer_with(KINDS["refuses it"]), "arm x", PromptConfig(system="s")
        )


def test_a_system_message_that_cannot_be_told_from_the_rest_is_refused():
    mixed = "{% if messages[0].role != 'system' %}<u>As Q: {{ messages[0].content }}{% else %}"
    template = mixed + EACH + "{% endif %}" + ANSWER
    with pytest.raises(ModelError, match="cannot be told from the rest"):
        text_of(template, system="none")


def test_a_template_stands_around_the_statement_and_takes_no_ready_made_prompt():
    ready = dataclasses.replace(ASKED, prompt="Ready: Print a.")
    tokenizer = tokenizer_with(KINDS["says nothing by itself"])
    for template, expected in ((None, "Ready: Print a."), ("{x} {statement}!", "{x} Print a.!")):
        (prompt,) = build_prompts([ready], tokenizer, "base", PromptConfig(template=template))
        assert prompt.text == f"<u>{expected}</u><a>"


def test_another_way_of_asking_is_another_digest():
    tokenizer = tokenizer_with(KINDS["says nothing by itself"])
    ways = ({}, {"system": "s"}, {"preset": "upstream-codecontests"})
    made = [build_prompts([ASKED], tokenizer, "base", PromptConfig(**way)) for way in ways]
    assert len({prompts_digest(prompts) for prompts in made}) == len(ways)
    same = build_prompts([ASKED], tokenizer, "base", PromptConfig(template="{statement}"))
    assert prompts_digest(same) == prompts_digest(made[0])


@pytest.mark.skipif(not SHARED.is_dir(), reason="real statements are not in this checkout")
def test_the_luogu_preset_asks_what_upstream_asks_of_its_rows(tmp_path):
    """Upstream sends a row's text without its first three sentences."""
    rows = (SHARED / "data/luogu/failed_extraction.jsonl").read_text().splitlines()
    removed = (
        "你将得到一个编程竞赛题目。请逐步推理解决方案，然后用C或C++提供完整的实现。"
        "请勿包含任何调试信息或额外输出。"
    )
    prompts = {json.loads(row)["prompt"] for row in rows}
    cases = [{"input": "1", "output": "1"}]
    source = tmp_path / "rows.jsonl"
    lines = [json.dumps({"prompt": prompt, "test_cases": cases}) + "\n" for prompt in prompts]
    source.write_text("".join(lines))
    asking = PromptConfig(preset="upstream-luogu")
    problems = load_suite(source).problems
    assert problems
    for problem in problems:
        assert problem.prompt in prompts and removed in problem.prompt
        assert asking.user_message(problem.statement, problem.prompt) == problem.prompt.replace(
            removed, ""
        )


def test_a_problem_that_is_no_text_is_left_out_with_the_reason():
    broken = [
        dataclasses.replace(ASKED, id="P2", statement="half \ud83d of a pair"),
        dataclasses.replace(ASKED, id="P\udc80"),
        dataclasses.replace(ASKED, id="P4", prompt="\ud800"),
        dataclasses.replace(ASKED, id="P5", family="\ud800"),
    ]
    tokenizer = tokenizer_with(KINDS["says nothing by itself"])
    good, *left_out = build_prompts([ASKED, *broken], tokenizer, "base")
    assert isinstance(good, Prompt)
    assert all(isinstance(item, LeftOut) for item in left_out)
    assert [item.problem for item in left_out] == [problem.id for problem in broken]
    assert "its statement is no valid Unicode" in left_out[0].reason
    assert "character 6 is half of a pair" in left_out[0].reason


def test_a_problem_that_the_chat_template_refuses_is_left_out():
    choosy = "{% if '!' in messages[0].content %}{{ raise_exception('rude') }}{% endif %}"
    rude = dataclasses.replace(ASKED, id="P2", statement="Print a!")
    good, left_out = build_prompts([ASKED, rude], tokenizer_with(choosy + EACH + ANSWER), "base")
    assert (good.text, left_out.problem) == (USER, "P2")
    assert "rude" in left_out.reason


def test_prompts_use_the_chat_template_and_ready_made_prompts():
    tokenizer = tiny_tokenizer()
    ready = dataclasses.replace(ASKED, prompt="ready made")
    first, second = build_prompts(
        [dataclasses.replace(ASKED, id="P2", statement="Print a + 1.!"), ready], tokenizer, "base"
    )
    assert first.text == "<|user|>Print a + 1.!<|assistant|>"
    assert second.text == "<|user|>ready made<|assistant|>"
    assert first.token_ids[0] == tokenizer.convert_tokens_to_ids("<|user|>")
    assert tokenizer.decode(first.token_ids) == first.text
    assert prompts_digest([first]) != prompts_digest([second])


def test_prompts_that_cannot_be():
    bare = tiny_tokenizer()
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        build_prompts([ASKED], bare, "arm base")
    prompts = [Prompt("short", "", (1,) * 10), Prompt("long", "", (1,) * 60)]
    check_prompts_fit(prompts, 40, 100, "arm base")
    check_prompts_fit(prompts, 400, None, "arm base")
    with pytest.raises(GenerationError, match="1 of 2 prompts do not fit its 100 positions.*long"):
        check_prompts_fit(prompts, 41, 100, "arm base")
