"""Whole runs on a tiny model: records, going on, refusals."""

import json
import shutil

import pytest
import torch

from evaluator import run as run_module
from evaluator.config.run_config import load_config
from evaluator.errors import ModelError, RunDirectoryError, SuiteError
from evaluator.generation import prepare as prepare_module
from evaluator.store.records import GenerationRecord, VerdictRecord, read, repeats
from evaluator.store.run_directory import RunDirectory
from tests.evaluator.conftest import write_artifact, write_sum_suite
from tests.evaluator.whole_runs import RECORDS, identities, make, merged, two_arms


def test_a_run_from_configuration_to_tables(whole):
    out, results, seen = whole
    generations, verdicts = identities(out)
    assert len(generations) == len(verdicts) == 3 * 6 * 2
    assert [record.key for record in generations] == [record.key for record in verdicts]
    first = [("base", "S0", 0), ("base", "S0", 1), ("base", "S1", 0), ("base", "S1", 1)]
    assert [record.key for record in generations[:4]] == first
    names = {arm.facts.name: arm for arm in results.summary.arms}
    assert 0 < names["base"].pass_rate < 1
    assert sum(names["base"].verdicts.values()) == 12
    stages = {f"{what} {arm}" for what in ("generate", "tokens") for arm in names}
    stages |= {f"tokens {name}" for name in repeats("restored")}
    assert {stage for stage, _, _ in seen} == {*stages, "judge"}
    assert ("judge", 36, 36) in seen
    level = results.summary.token_level
    assert level.texts == 6 and level.visible
    assert level.arm("base").kept.retention == 0 and level.arm("base").kl.tokens > 100
    session = json.loads((out / "environment.json").read_text())["sessions"][0]
    assert session["command"] == "test"
    assert session["sandbox"]["rung"] in ("bwrap", "unshare")
    assert session["versions"]["torch"]
    assert load_config(out / "config.yaml").decoding.samples == 2
    # equal programs of one problem have equal verdicts
    by_program = {}
    for record in read(out / "verdicts.jsonl", VerdictRecord.from_row).values():
        program = by_program.setdefault((record.problem, record.code_sha256), record)
        assert (program.verdict, program.tests) == (record.verdict, record.tests)


def test_an_a_a_repeat_has_its_own_noise(quick, quick_config, tmp_path):
    base = {"kind": "base", "model": str(quick["base"])}
    arms = [{"name": "base", **base}, {"name": "again", "seed": 99, **base}]
    out, _ = make(quick_config(tmp_path / "out", arms=[*arms, {"name": "same", **base}]))
    texts = {}
    for record in read(out / RECORDS[0], GenerationRecord.from_row).values():
        texts.setdefault(record.arm, []).append(record.text)
    assert texts["base"] == texts["same"] != texts["again"]


def test_arms_that_read_the_references_text_write_what_they_write_from_scratch(
    quick, quick_config, tmp_path
):
    arms = [*two_arms(quick["base"], quick["artifact"], load="nf4"), merged("dense", quick["base"])]

    def completions(drafts):
        out, _ = make(quick_config(tmp_path / str(drafts), arms=arms, drafts=drafts))
        return read(out / RECORDS[0], GenerationRecord.from_row)

    drafted, scratch = completions(True), completions(False)
    assert drafted == scratch
    for arm, reads in (("base", True), ("restored", False), ("dense", True)):
        own = [record for record in drafted.values() if record.arm == arm]
        assert any(record.taken_over for record in own) is reads
        assert any(record.tokens for record in own) is not reads
    assert not any(record.taken_over for record in scratch.values())


@pytest.fixture
def first(quick, quick_config, tmp_path):
    """``first(*arms, **changes)`` writes a run of the base and more arms, of four tokens a text."""
    base = {"name": "base", "kind": "base", "model": str(quick["base"])}

    def write(*arms, max_new_tokens=4, **changes):
        decoding = {"max_new_tokens": max_new_tokens, **changes.pop("decoding", {})}
        named = {"arms": [base, *arms], "decoding": decoding, **changes}
        return quick_config(tmp_path / "out", **named)

    return write


def test_another_run_in_the_same_directory_is_refused_or_replaces_it(
    first, quick, tmp_path, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    other = write_sum_suite(tmp_path / "other")
    content = (other / "problems.jsonl").read_text().replace("20\\n", "21\\n")
    (other / "problems.jsonl").write_text(content)
    model = shutil.copytree(quick["base"], tmp_path / "model")
    (model / "generation_config.json").write_text("{}")
    arm = {"name": "base", "kind": "base", "model": str(model)}
    out, _ = make(first())
    (out / "notes.txt").write_text("mine")
    before = (out / "generations.jsonl").read_bytes()
    for changes, named in (
        ({"equivalence": {"margin": 0.2}}, "config.equivalence.margin was 0.05, is 0.2"),
        ({"suite": str(other)}, "suite_digest was"),
        ({"arms": [arm]}, r"arms\[0\]\.files\.generation_config\.json was"),
        ({"max_new_tokens": 9}, "config.decoding.max_new_tokens was 4, is 9"),
    ):
        changed = first(**changes)
        with pytest.raises(RunDirectoryError, match=f"{named}.*choose another out.*--overwrite"):
            make(changed)
        assert (out / "generations.jsonl").read_bytes() == before
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("evaluator.store.run_directory.replace_file", killed)
        make(changed, overwrite=True)
    make(changed, overwrite=True)  # it is still a run's directory
    assert (out / "notes.txt").read_text() == "mine"
    assert len(json.loads((out / "environment.json").read_text())["sessions"]) == 1


def test_a_run_goes_on_on_the_same_kind_of_device_only(quick_config, tmp_path, monkeypatch):
    def facts(**changes):
        return prepare_module.prepare(load_config(quick_config(tmp_path / "out", **changes))).facts

    directory = RunDirectory(tmp_path / "out")
    directory.path.mkdir()
    directory.begin(facts(device="cpu"), "", overwrite=False)
    assert directory.differences(facts(device="auto")) == []
    named = {"cuda:0": torch.device("cuda", 0), "cuda:1": torch.device("cuda", 1)}
    named["auto"] = named["cuda:0"]  # as on a machine with GPUs
    monkeypatch.setattr(prepare_module, "resolve_device", lambda name, *_: named[name])
    assert facts(device="cuda:1") == facts(device="auto")
    with pytest.raises(RunDirectoryError, match='config.device was "cpu", is "cuda"'):
        directory.begin(facts(device="auto"), "", overwrite=False)


def test_going_on_with_other_versions_is_said(quick_config, tmp_path, caplog):
    path = quick_config(tmp_path / "out", token_level={"enabled": False})
    out, _ = make(path)
    make(path)
    assert caplog.text == ""
    content = json.loads((out / "environment.json").read_text())
    content["sessions"][0]["versions"] |= {"torch": "1.0", "numpy": "1.0"}
    (out / "environment.json").write_text(json.dumps(content))
    make(path)
    assert "were made with torch 1.0, which is not what is installed here" in caplog.text
    assert "torch 1.0" in (out / "report.md").read_text()


def test_everything_is_checked_before_a_model_is_loaded(first, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "generate_share", lambda *_: pytest.fail("a model was loaded"))
    cut_off = tmp_path / "cut.pt"
    cut_off.write_bytes(quick["artifact"].read_bytes()[:-100])
    other = write_artifact(tmp_path, 0.05, "other", layers=252)
    restored = {"name": "mine", "kind": "restored", "model": str(quick["base"])}
    for arms, changes, error, words in (
        ((), {"suite": str(tmp_path / "no-suite")}, SuiteError, "no such suite"),
        ((merged("x", "/no/model"),), {}, ModelError, "no directory"),
        ((), {"device": "cuda:7"}, ModelError, "no GPU"),
        (({**restored, "artifact": str(cut_off)},), {}, ModelError, "arm mine: .*not a torch.save"),
        (({**restored, "artifact": str(other)},), {}, ModelError, "arm mine: .*252"),
    ):
        with pytest.raises(error, match=words):
            make(first(*arms, **changes))
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(run_module.shutil, "disk_usage", lambda _: full)
    with pytest.raises(RunDirectoryError, match="0 MB are free and the run may need"):
        make(first())
    assert not (tmp_path / "out").exists()


def change_rows(suite, changes):
    """Change problems of a suite, given by their places; the suite as a run's field."""
    file = suite / "problems.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for place, fields in changes.items():
        rows[place] |= fields
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"suite": str(suite)}


def test_problems_that_ask_nothing_are_refused(first, sum_suite, tmp_path):
    empty = {1: {"statement": " \n"}, 4: {"statement": ""}}
    changes = empty | {5: {"statement": "", "prompt": "Print a + 5."}}
    with pytest.raises(SuiteError, match=r"2 of 6 problems have neither .*: S1, S4\. Import"):
        make(first(**change_rows(sum_suite, changes)))
    assert not (tmp_path / "out").exists()


def test_arms_that_read_other_prompts_are_refused(first, quick, tmp_path):
    other = shutil.copytree(quick["base"], tmp_path / "other")
    (other / "chat_template.jinja").write_text("{{ messages[0]['content'] }} now: <|assistant|>")
    with pytest.raises(ModelError, match="other reads another prompt than arm base for 6 problems"):
        make(first(merged("other", other)))


def test_a_run_asks_as_a_preset_does_and_penalizes_as_the_model_says(
    first, quick, quick_config, tmp_path
):
    model = shutil.copytree(quick["base"], tmp_path / "base")
    settings = json.loads((model / "generation_config.json").read_text())
    settings["repetition_penalty"] = 1.3
    (model / "generation_config.json").write_text(json.dumps(settings))
    arms = [{"name": "base", "kind": "base", "model": str(model)}]
    path = first(arms=arms, prompt="upstream-codecontests")
    out, _ = make(path)
    made = load_config(out / "config.yaml")
    assert made.prompt.system.startswith("You are an expert competitive programmer")
    assert made.prompt.template.endswith("{statement}\n\nPlease provide your C++ solution:")
    assert made.decoding.repetition_penalty == 1.3
    before = [(out / name).read_bytes() for name in RECORDS]
    make(path)  # what it left to the model is found again
    shutil.copyfile(out / "config.yaml", path)
    make(path)
    assert [(out / name).read_bytes() for name in RECORDS] == before
    for other in ({}, {"prompt": {"system": "none"}}):
        with pytest.raises(RunDirectoryError, match="holds another run.*prompt"):
            make(first(arms=arms, **other))


def test_models_whose_penalties_differ_need_a_number(first, quick, tmp_path):
    other = shutil.copytree(quick["base"], tmp_path / "other")
    for penalty, words in ((1.2, "differ .base has 1, other has 1.2"), ("x", "is 'x', expected")):
        settings = json.dumps({"eos_token_id": 1, "repetition_penalty": penalty})
        (other / "generation_config.json").write_text(settings)
        with pytest.raises(ModelError, match=words):
            make(first(merged("other", other), decoding={"repetition_penalty": "from_model"}))


def test_a_problem_that_cannot_be_asked_is_listed_and_the_others_run(first, sum_suite, caplog):
    path = first(**change_rows(sum_suite, {2: {"statement": "输出 a + 2。长长\udc80"}}))
    out, results = make(path)
    records = read(out / "verdicts.jsonl", VerdictRecord.from_row).values()
    assert {record.problem for record in records} == {"S0", "S1", "S3", "S4", "S5"}
    reason = "S2 (its statement is no valid Unicode: character 12 is half of a pair"
    assert reason in results.sentences[0] and reason in (out / "report.md").read_text()
    assert "1 cannot be asked: S2" in caplog.text
    make(path)
    assert list(RunDirectory(out).read_facts().left_out) == ["S2"]


def test_a_directory_of_something_else_is_left_alone(first, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunDirectoryError, match="not a run's directory"):
            make(first(), overwrite=overwrite)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]
