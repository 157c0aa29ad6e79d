"""How problems are asked: system message, template, presets, and what cannot be asked."""

import dataclasses
import json
from pathlib import Path

import pytest

from evaluator.config.prompt_config import PromptConfig
from evaluator.config.run_config import DecodingConfig
from evaluator.errors import ModelError
from evaluator.generation.prompts import (
    Prompt,
    build_prompts,
    check_prompts_fit,
    plan_batches,
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


def asked(chats, problem=ASKED, **asking):
    """The one prompt of a problem in chats of this template."""
    config = PromptConfig(**asking)
    (prompt,), _ = build_prompts([problem], tokenizer_with(chats), "arm x", config)
    return prompt


@pytest.mark.parametrize("kind", KINDS)
def test_none_asks_as_if_the_template_had_no_system_message(kind):
    start = "<|bos|>" if "bos_token" in KINDS[kind] else ""
    assert asked(KINDS[kind], system="none").text == start + USER


def test_the_templates_own_system_message_stands_until_another_is_given():
    for asking, said in (
        ({}, "I am Q."),
        ({"system": "Write C++."}, "Write C++."),
        ({"system": ""}, ""),
    ):
        assert asked(KINDS["has a default"], **asking).text == f"<|bos|><s>{said}</s>{USER}"


def test_a_system_message_that_a_template_cannot_take_or_leave_is_refused():
    with pytest.raises(ModelError, match="arm x: no problem .*'P1'.*no system role"):
        asked(KINDS["refuses it"], system="s")
    mixed = "{% if messages[0].role != 'system' %}<u>As Q: {{ messages[0].content }}{% else %}"
    with pytest.raises(ModelError, match="cannot be told from the rest"):
        asked(mixed + EACH + "{% endif %}" + ANSWER, system="none")


def test_a_template_stands_around_the_statement_and_takes_no_ready_made_prompt():
    ready = dataclasses.replace(ASKED, prompt="Ready: Print a.")
    plain = KINDS["says nothing by itself"]
    for template, expected in ((None, "Ready: Print a."), ("{x} {statement}!", "{x} Print a.!")):
        assert asked(plain, ready, template=template).text == f"<u>{expected}</u><a>"


def test_another_way_of_asking_is_another_digest():
    plain = KINDS["says nothing by itself"]
    ways = ({}, {"system": "s"}, {"preset": "upstream-codecontests"}, {"template": "{statement}"})
    digests = [prompts_digest([asked(plain, **way)]) for way in ways]
    assert len(set(digests)) == 3 and digests[0] == digests[3]


@pytest.mark.skipif(not SHARED.is_dir(), reason="real statements are not in this checkout")
def test_the_luogu_preset_asks_what_upstream_asks_of_its_rows(tmp_path):
    """Upstream sends a row's text without its first three sentences."""
    rows = (SHARED / "data/luogu/failed_extraction.jsonl").read_text().splitlines()
    removed = "你将得到一个编程竞赛题目。请逐步推理解决方案，然后用C或C++提供完整的实现。"
    removed += "请勿包含任何调试信息或额外输出。"
    prompts, source = {json.loads(row)["prompt"] for row in rows}, tmp_path / "rows.jsonl"
    cases = {"test_cases": [{"input": "1", "output": "1"}]}
    source.write_text("".join(json.dumps({"prompt": p, **cases}) + "\n" for p in prompts))
    asking = PromptConfig(preset="upstream-luogu")
    problems = load_suite(source).problems
    made = {asking.user_message(problem.statement, problem.prompt) for problem in problems}
    assert made and made <= {prompt.replace(removed, "") for prompt in prompts} - prompts


def test_a_problem_that_is_no_text_or_that_the_template_refuses_is_left_out_with_the_reason():
    broken = [
        dataclasses.replace(ASKED, id="P2", statement="half \ud83d of a pair"),
        dataclasses.replace(ASKED, id="P\udc80"),
        dataclasses.replace(ASKED, id="P4", prompt="\ud800"),
        dataclasses.replace(ASKED, id="P5", family="\ud800"),
    ]
    tokenizer = tokenizer_with(KINDS["says nothing by itself"])
    (good,), left_out = build_prompts([ASKED, *broken], tokenizer, "base")
    assert good.problem == "P1"
    assert left_out.keys() == {problem.id for problem in broken}
    assert "its statement is no valid Unicode: character 6 is half of a pair" in left_out["P2"]
    choosy = "{% if '!' in messages[0].content %}{{ raise_exception('rude') }}{% endif %}"
    rude = dataclasses.replace(ASKED, id="P2", statement="Print a!")
    (good,), left_out = build_prompts([ASKED, rude], tokenizer_with(choosy + EACH + ANSWER), "base")
    assert good.text == USER
    assert "rude" in left_out["P2"]


def test_prompts_that_cannot_be():
    bare = tiny_tokenizer()
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        build_prompts([ASKED], bare, "arm base")
    prompts = [Prompt("short", "", (1,) * 10), Prompt("long", "", (1,) * 60)]
    check_prompts_fit(prompts, 40, 100, "arm base")
    check_prompts_fit(prompts, 400, None, "arm base")
    with pytest.raises(ModelError, match="1 of 2 prompts do not fit its 100 positions.*long"):
        check_prompts_fit(prompts, 41, 100, "arm base")


def test_every_row_once_the_longest_prompts_first():
    prompts = [Prompt(f"P{i}", "", (1,) * (3 + 7 * i % 11)) for i in range(40)]
    plan = plan_batches(prompts, DecodingConfig(batch_size=3, samples=2, temperature=1.0))
    rows = [(row.prompt.problem, row.sample) for batch in plan for row in batch]
    assert sorted(rows) == sorted((p.problem, s) for p in prompts for s in (0, 1))
    lengths = [len(row.prompt.token_ids) for batch in plan for row in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert {len(batch) for batch in plan} == {2, 3}
    assert {len(batch) for batch in plan_batches(prompts, DecodingConfig(), 7)} == {5, 7}
