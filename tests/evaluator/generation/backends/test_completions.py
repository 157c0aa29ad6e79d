"""Arms whose texts come from a file: judged and compared like others, or refused by line."""

import hashlib
import json

import pytest
import yaml

from evaluator.config.run_config import load_config
from evaluator.effect import measure_effect
from evaluator.errors import CompletionsError, ConfigError, RunDirectoryError
from evaluator.generation.prepare import prepare
from tests.evaluator.conftest import program
from tests.evaluator.whole_runs import make, two_arms, write_config

RIGHT = {"S0", "S1", "S2", "S3"}


def sign(problem):
    return "+" if problem in RIGHT else "-"


def our_rows(samples=1):
    return [
        {"problem": f"S{k}", "sample": i, "completion": program(k, sign(f"S{k}"))}
        for k in range(6)
        for i in range(samples)
    ]


def batch_row(row, **changes):
    """The same text as an engine that runs OpenAI's batches writes it."""
    choice = {"message": {"role": "assistant", "content": row["completion"]}}
    body = {"model": "mine", "choices": [{**choice, "finish_reason": "stop"}]}
    name = f"{row['problem']}/{row['sample']}"
    return {"id": "x", "custom_id": name, "response": {"status_code": 200, "body": body}, **changes}


@pytest.fixture
def texts(tmp_path):
    return tmp_path / "texts.jsonl"


@pytest.fixture
def config(quick, texts, tmp_path):
    """``config(rows, **changes)`` writes a run of base, restored, and an arm with these rows."""

    def write(rows, arm=None, name="out", alone=False, **changes):
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        texts.write_text("".join(f"{line}\n" for line in lines))
        engine = {"name": "engine", "kind": "completions", "completions": str(texts)}
        others = [] if alone else two_arms(quick["base"], quick["artifact"])
        arms = [*others, engine | (arm or {})]
        content = {"arms": arms, "decoding": {"max_new_tokens": 14}, **changes}
        return write_config(tmp_path / "c.yaml", out=tmp_path / name, **{**quick, **content})

    return write


SAMPLED = {"samples": 2, "temperature": 1.0, "max_new_tokens": 14}


def cut_off(row):
    return {**row, "finish_reason": "length"}


@pytest.mark.parametrize("form", [cut_off, batch_row])
def test_texts_of_a_file_are_judged_and_compared(config, form):
    out, results = make(config([form(row) for row in reversed(our_rows())]))
    arm = next(arm for arm in results.summary.arms if arm.facts.name == "engine")
    assert arm.pass_rate == pytest.approx(4 / 6)
    assert arm.facts.kind == "completions" and not arm.facts.paired
    assert results.summary.comparison("engine").reference == "restored"
    assert (out / "report.html").is_file()
    rows = map(json.loads, (out / "generations.jsonl").read_text().splitlines())
    reasons = {row["finish_reason"] for row in rows if row["arm"] == "engine"}
    assert reasons == {"length" if form is cut_off else "stop"}
    named = "6 texts of engine: by mine." in (out / "report.md").read_text()
    assert named is (form is batch_row)


def test_the_token_level_leaves_greedy_texts_out_and_they_count_as_paired(config):
    _, results = make(config(our_rows()))
    level = results.summary.token_level
    assert level.arm("base") is not None and level.arm("engine") is None
    assert not level.unfinished
    assert any("token level has nothing of engine" in one for one in results.sentences)

    assert results.summary.facts.same_noise("engine", "restored")
    assert not any("drawn independently" in one for one in results.sentences)


def test_the_reference_may_be_a_file_too(config, texts):
    arms = [{"name": "restored", "kind": "restored", "completions": str(texts)}]
    arms += [{"name": "same", "kind": "completions", "completions": str(texts)}]
    with pytest.raises(ConfigError, match="completions gives no logits.*token_level.enabled"):
        make(config(our_rows(), arms=arms))
    _, results = make(config(our_rows(), arms=arms, token_level={"enabled": False}))
    assert results.summary.comparison("same").flip_rate == 0


def test_digest_of_the_file_is_the_arms_in_record_and_plan(config, texts):
    out, _ = make(config(our_rows(), alone=True))
    digest = hashlib.sha256(texts.read_bytes()).hexdigest()
    for name in ("run.json", "plan.json"):
        assert json.loads((out / name).read_text())["arms"][0]["digest"] == digest
    with pytest.raises(RunDirectoryError, match=r"arms\[0\].digest was"):
        make(config(our_rows()[::-1], alone=True))


BROKEN = "not JSON.*delete the line and make its text again"
FIRST = our_rows()[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"problem": "S0", "comp', BROKEN),
        ([1], "an array where a line"),
        (FIRST, "problem 'S0', sample 0 is there a second time; keep one"),
        ({**FIRST, "problem": "S9"}, "problem 'S9' is not in the suite; delete the line"),
        ({**FIRST, "sample": 1}, r"sample 1 \(from 0\), but decoding.samples is 1; delete"),
        ({**FIRST, "sample": -1}, "sample -1"),
        ({**FIRST, "sample": True}, "expected 'problem'"),
        ({**FIRST, "token_count": 2**63}, "'token_count' is 9223372036854775808, expected a n"),
        ({"problem": "S0"}, "'completion' is None, expected a text; make it again"),
        ({**FIRST, "finish_reason": "eos"}, "'finish_reason' is 'eos', expected stop or length"),
        (batch_row(FIRST, custom_id="S0"), "'custom_id' is 'S0', expected problem/sample"),
        (batch_row(FIRST, custom_id=7), "'custom_id' is 7"),
        (batch_row(FIRST, response=None, error={"message": "no"}), "S0/0: the engine failed"),
        (batch_row(FIRST, response={"status_code": 500, "body": {}}), "failed .status 500"),
        (batch_row(FIRST, response={"status_code": 200}), "S0/0: response.body.*ask for it again"),
        (batch_row(FIRST, response={"body": {"choices": []}}), "one of 'choices', found"),
    ],
)
def test_a_bad_line_is_named_with_its_remedy(config, texts, tmp_path, row, message):
    rows = our_rows()
    rows.insert(1, row)
    with pytest.raises(CompletionsError, match=f"arm engine: {texts}, line 2: .*{message}"):
        make(config(rows, alone=True))
    assert not (tmp_path / "out").exists()


def test_missing_texts_are_refused_with_the_count_and_first_ids(config, texts):
    some = [row for row in our_rows(2) if (row["problem"], row["sample"]) != ("S1", 0)][:-2]
    path = config(some, alone=True, decoding=SAMPLED)
    with pytest.raises(CompletionsError) as caught:
        make(path)
    assert f"{texts}: 3 of 12 texts are missing" in str(caught.value)
    assert ": S1/0, S5/0, S5/1. Make them" in str(caught.value)
    texts.unlink()
    with pytest.raises(CompletionsError, match=f"arm engine: {texts}: cannot be read"):
        make(path)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"model": "somewhere"}, "expected one of model, completions, endpoint, found model and"),
        ({"completions": None}, "expected one of model, completions, endpoint, found none"),
        ({"load": "nf4"}, "cannot quantize while loading"),
        ({"backend": "transformers"}, "backend transformers needs the field model"),
    ],
)
def test_what_does_not_go_with_a_file_of_texts_is_refused(config, arm, message):
    with pytest.raises(ConfigError, match=message):
        make(config(our_rows(), arm=arm, alone=True))


@pytest.mark.parametrize("reasoning", ["", f"```cpp\n{program(0, '-')}\n```\n</think>\n"])
def test_what_stands_behind_the_answer_is_cut_off(config, reasoning):
    fenced = [f"{reasoning}```cpp\n{row['completion']}\n```\n" for row in our_rows()]
    pairs = zip(our_rows(), fenced, strict=True)
    rows = [{**row, "completion": f"{text}It prints"} for row, text in pairs]
    out, _ = make(config(rows, alone=True, decoding={"stop": "closing_fence"}))
    records = map(json.loads, (out / "generations.jsonl").read_text().splitlines())
    assert [record["text"] for record in records] == fenced


def test_the_effect_of_an_adapter_is_not_looked_for_in_texts(config, texts):
    arms = yaml.safe_load(config(our_rows()).read_text())["arms"]
    arms[0] = {"name": "base", "kind": "base", "completions": str(texts)}
    with pytest.raises(ConfigError, match="kind base and one restored, with models here"):
        measure_effect(prepare(load_config(config(our_rows(), arms=arms))), lambda *_: None)
