"""``tinylora-eval prompts``: what is asked in a run, for engines elsewhere."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from evaluator.cli import app
from evaluator.config.run_config import load_config
from evaluator.generation.prepare import prepare
from tests.evaluator.conftest import statement
from tests.evaluator.whole_runs import make, two_arms, write_config

SAMPLED = {"temperature": 0.7, "samples": 2, "max_new_tokens": 80}


@pytest.fixture
def config(quick, tmp_path):
    """``config(**changes)`` writes a run of two samples a problem."""
    arms = two_arms(quick["base"], quick["artifact"])
    named = {**quick, "out": tmp_path / "out", "arms": arms, "decoding": SAMPLED}
    return lambda **changes: write_config(tmp_path / "c.yaml", **{**named, **changes})


def written(*arguments):
    done = CliRunner().invoke(app, ["prompts", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_prompts_are_those_that_the_run_asks(config):
    path = config()
    rows = written(path)
    asked = {prompt.problem: prompt.text for prompt in prepare(load_config(path)).prompts}
    keys = [(f"S{k}", i) for k in range(6) for i in (0, 1)]
    assert [(row["problem"], row["sample"]) for row in rows] == keys
    for row in rows:
        assert row["text"] == asked[row["problem"]]
        assert row["messages"] == [{"role": "user", "content": statement(int(row["problem"][1]))}]
        assert (row["temperature"], row["top_p"], row["top_k"]) == (0.7, 1.0, 0)
        assert (row["max_new_tokens"], row["repetition_penalty"]) == (80, 1.0)


@pytest.fixture
def engine(tmp_path):
    """The arm of a file of texts, and this file."""
    texts = tmp_path / "texts.jsonl"
    return {"name": "engine", "kind": "completions", "completions": str(texts)}, texts


def test_a_limit_holds_for_prompts_too_and_more_answers_do_no_harm(config, engine):
    arm, texts = engine
    rows = written(config(arms=[arm]))
    assert len({row["problem"] for row in rows}) == 6
    path = config(arms=[arm], limit=2)
    assert {row["problem"] for row in written(path)} == {"S0", "S1"}
    texts.write_text("".join(json.dumps({**row, "completion": "x"}) + "\n" for row in rows))
    assert len(make(path)[1].summary.facts.problems) == 2


def test_every_sample_of_every_problem_has_its_own_seed(config):
    first, again = written(config()), written(config())
    assert [row["seed"] for row in first] == [row["seed"] for row in again]
    assert len({row["seed"] for row in first}) == 12
    assert all(0 <= row["seed"] < 2**31 for row in first)
    other = written(config(decoding={**SAMPLED, "seed": 1}))
    assert not {row["seed"] for row in first} & {row["seed"] for row in other}


def test_openai_batches_hold_the_whole_request(config):
    plain, rows = written(config()), written(config(), "--openai", "--model", "mine")
    decoding = {"temperature": 0.7, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "max_tokens": 80}
    for row, same in zip(rows, plain, strict=True):
        own = {"model": "mine", "messages": same["messages"], "seed": same["seed"]}
        assert row == {
            "custom_id": f"{same['problem']}/{same['sample']}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**own, **decoding, "repetition_penalty": 1.0},
        }


def test_a_model_is_named_in_batches_only(config):
    done = CliRunner().invoke(app, ["prompts", str(config()), "--model", "mine"])
    assert done.exit_code == 2 and not done.stdout
    assert "--model" in done.stderr and "give --openai" in done.stderr


def test_texts_and_endpoints_need_not_be_there(config, engine, tmp_path):
    """Texts are made from the prompts; without a model here these have messages alone."""
    endpoint = {"base_url": "http://localhost:1/v1", "model": "m"}
    arms = [engine[0], {"name": "served", "kind": "base", "endpoint": endpoint}]
    prompt = {"system": "Write C++.", "template": "Solve:\n{statement}"}
    rows = written(config(arms=arms, prompt=prompt))
    assert len(rows) == 12 and all(row["text"] is None for row in rows)
    assert rows[2]["messages"] == [
        {"role": "system", "content": "Write C++."},
        {"role": "user", "content": f"Solve:\n{statement(1)}"},
    ]
    assert not (tmp_path / "out").exists()


def test_prompts_answered_by_any_engine_make_an_arm(config, engine, tmp_path):
    (arm, texts), prompts = engine, tmp_path / "prompts.jsonl"
    path = config(arms=[arm])
    done = CliRunner().invoke(app, ["prompts", str(path), "--openai", "-o", str(prompts)])
    assert done.exit_code == 0 and f"12 prompts: {prompts}" in done.stdout
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    assert {row["body"]["model"] for row in rows} == {"model"}
    choice = {"message": {"content": "no idea"}, "finish_reason": "stop"}
    body = {"response": {"body": {"choices": [choice]}}}
    answered = [{"custom_id": row["custom_id"], **body} for row in rows]
    texts.write_text("".join(json.dumps(row) + "\n" for row in answered))
    _, results = make(path)
    assert results.summary.arms[0].pass_rate == 0
    assert any("There is no restored arm" in one for one in results.sentences)


def test_a_template_that_adds_a_system_message_has_no_batch_without_it(config, quick, tmp_path):
    model = shutil.copytree(quick["base"], tmp_path / "model")
    (model / "chat_template.jinja").write_text(
        "{% if messages[0].role != 'system' %}<s>Be nice.</s>{% endif %}{% for m in messages %}"
        "{% set mark = 's' if m.role == 'system' else 'u' %}"
        "<{{ mark }}>{{ m.content }}</{{ mark }}>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    arms = [{"name": "base", "kind": "base", "model": str(model)}]
    path = config(arms=arms, prompt={"system": "none"})
    rows = written(path)
    assert all(row["messages"] is None and "Be nice" not in row["text"] for row in rows)
    done = CliRunner().invoke(app, ["prompts", str(path), "--openai"])
    assert done.exit_code == 2 and "prompt.system" in done.stderr


def test_a_file_that_cannot_be_written_is_named(config, tmp_path):
    out = tmp_path / "none" / "prompts.jsonl"
    done = CliRunner().invoke(app, ["prompts", str(config()), "-o", str(out)])
    assert done.exit_code == 2 and "cannot be written" in done.stderr
