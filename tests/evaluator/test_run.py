"""Whole runs on a tiny model: records, resuming after any kill, refusals."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from evaluator import run as run_module
from evaluator.config.run_config import load_config
from evaluator.errors import ModelError, RunDirectoryError, SuiteError
from evaluator.generation import prepare as prepare_module
from evaluator.store.records import GenerationRecord, VerdictRecord, read, repeats
from evaluator.store.run_directory import RunDirectory
from tests.evaluator.conftest import write_artifact
from tests.evaluator.whole_runs import identities, make

RECORDS = ("generations.jsonl", "verdicts.jsonl")
REPOSITORY = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize(("generated", "judged"), [(0.6, 0.0), (1.0, 0.4)])
def test_records_cut_at_any_byte_are_completed_to_the_same(
    config_of, whole, tmp_path, generated, judged
):
    out = shutil.copytree(whole[0], tmp_path / "out")
    for name, share in zip(RECORDS, (generated, judged), strict=True):
        content = (out / name).read_bytes()
        (out / name).write_bytes(content[: int(share * len(content))])
    make(config_of())
    assert identities(out) == identities(whole[0])


def test_predictions_that_a_killed_run_left_on_the_disk_go(quick_config, tmp_path):
    """Gigabytes, also where they are not wanted any more."""
    spool = tmp_path / "out" / "token_level.tmp"
    spool.mkdir(parents=True)
    (spool / "one.safetensors").write_bytes(b"...")
    (tmp_path / "out" / "run.json").touch()
    out, _ = make(quick_config(tmp_path / "out", token_level={"enabled": False}), overwrite=True)
    assert not spool.exists() and (out / "report.md").exists()


@pytest.mark.parametrize(
    "changes", [{"code_sha256": "0" * 64, "verdict": "RE"}, {"verdict": "UKE", "tests": []}]
)
def test_verdicts_on_another_program_or_of_a_judge_that_failed_are_made_again(
    config_of, whole, tmp_path, changes
):
    out = shutil.copytree(whole[0], tmp_path / "out")
    rows = [json.loads(line) for line in (out / RECORDS[1]).read_text().splitlines()]
    rows[0] |= {"score": 7.0, **changes}
    (out / RECORDS[1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    make(config_of())
    assert identities(out) == identities(whole[0])


def test_an_a_a_repeat_has_its_own_noise(config_of):
    arms = yaml.safe_load(config_of().read_text())["arms"]
    again = {**arms[0], "name": "again", "seed": 99}
    same = {**arms[0], "name": "same"}
    decoding = {"temperature": 1.5, "max_new_tokens": 64}
    out, _ = make(config_of(arms=[arms[0], again, same], decoding=decoding))
    texts = {}
    for record in read(out / "generations.jsonl", GenerationRecord.from_row).values():
        texts.setdefault(record.arm, []).append(record.text)
    assert texts["base"] == texts["same"] != texts["again"]


def test_arms_that_read_the_references_text_write_what_they_write_from_scratch(config_of, whole):
    out, _ = make(config_of(drafts=False))
    scratch = read(out / "generations.jsonl", GenerationRecord.from_row)
    drafted = read(whole[0] / "generations.jsonl", GenerationRecord.from_row)
    assert drafted == scratch
    for arm, reads in (("base", True), ("restored", False), ("dense", True)):
        own = [record for record in drafted.values() if record.arm == arm]
        assert any(record.taken_over for record in own) is reads
        assert any(record.tokens for record in own) is not reads
    assert not any(record.taken_over for record in scratch.values())


def _killed(*_):
    raise KeyboardInterrupt


def test_another_run_in_the_same_directory_is_refused_or_replaces_it(
    config_of, sum_suite, chat_base, tmp_path, monkeypatch
):
    other = shutil.copytree(sum_suite, tmp_path / "other")
    content = (other / "problems.jsonl").read_text().replace("20\\n", "21\\n")
    (other / "problems.jsonl").write_text(content)
    model = shutil.copytree(chat_base, tmp_path / "model")
    (model / "generation_config.json").write_text("{}")
    arms = _first_arm(config_of)
    small = {"decoding": {"max_new_tokens": 8}, "arms": arms}
    out, _ = make(config_of(**small))
    (out / "notes.txt").write_text("mine")
    before = (out / "generations.jsonl").read_bytes()
    for changes, named in (
        ({"equivalence": {"margin": 0.2}}, "config.equivalence.margin was 0.05, is 0.2"),
        ({"suite": str(other)}, "suite_digest was"),
        ({"arms": [{**arms[0], "model": str(model)}]}, r"arms\[0\]\.files\.generation_c"),
        ({"decoding": {"max_new_tokens": 9}}, "config.decoding.max_new_tokens was 8, is 9"),
    ):
        changed = config_of(**{**small, **changes})
        with pytest.raises(RunDirectoryError, match=f"{named}.*--overwrite"):
            make(changed)
        assert (out / "generations.jsonl").read_bytes() == before
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("evaluator.store.run_directory.replace_file", _killed)
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


def _first_arm(config_of):
    return yaml.safe_load(config_of().read_text())["arms"][:1]


def test_everything_is_checked_before_a_model_is_loaded(
    config_of, chat_artifact, tmp_path, monkeypatch
):
    def refuse(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(run_module, "generate_share", refuse)
    arms = _first_arm(config_of)
    with pytest.raises(SuiteError):
        make(config_of(suite=str(tmp_path / "no-suite")))
    with pytest.raises(ModelError, match="no directory"):
        make(config_of(arms=[arms[0], {"name": "x", "kind": "merged", "model": "/no/model"}]))
    with pytest.raises(ModelError, match="no GPU"):
        make(config_of(device="cuda:7"))
    cut = tmp_path / "cut.pt"
    cut.write_bytes(chat_artifact.read_bytes()[:-100])
    other = write_artifact(tmp_path, 0.05, "other", layers=252)
    for path, words in ((cut, "cut.pt: not a torch.save zip"), (other, "252")):
        restored = {**arms[0], "name": "mine", "kind": "restored", "artifact": str(path)}
        with pytest.raises(ModelError, match=f"arm mine: .*{words}"):
            make(config_of(arms=[arms[0], restored]))
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(run_module.shutil, "disk_usage", lambda _: full)
    with pytest.raises(RunDirectoryError, match="0 MB are free and the run may need"):
        make(config_of())
    assert not (tmp_path / "out").exists()


def test_problems_that_ask_nothing_are_refused(config_of, sum_suite, tmp_path):
    file = sum_suite / "problems.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["statement"] = " \n"
    rows[4]["statement"] = ""
    rows[5] |= {"statement": "", "prompt": "Print a + 5."}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SuiteError, match=r"2 of 6 problems have neither .*: S1, S4\. Import"):
        make(config_of())
    assert not (tmp_path / "out").exists()


def test_arms_that_read_other_prompts_are_refused(config_of, chat_base, tmp_path):
    other = shutil.copytree(chat_base, tmp_path / "other")
    (other / "chat_template.jinja").write_text("{{ messages[0]['content'] }} now: <|assistant|>")
    arms = _first_arm(config_of)
    arms.append({"name": "other", "kind": "merged", "model": str(other)})
    with pytest.raises(ModelError, match="other reads another prompt than arm base for 6 problems"):
        make(config_of(arms=arms))


def test_a_run_asks_as_a_preset_does_and_penalizes_as_the_model_says(
    config_of, chat_base, tmp_path
):
    base = shutil.copytree(chat_base, tmp_path / "base")
    settings = json.loads((base / "generation_config.json").read_text())
    (base / "generation_config.json").write_text(json.dumps(settings | {"repetition_penalty": 1.3}))
    arms = [{**arm, "model": str(base)} for arm in _first_arm(config_of)]
    small = {"arms": arms, "decoding": {"max_new_tokens": 8}}
    path = config_of(**small, prompt="upstream-codecontests")
    out, _ = make(path)
    made = load_config(out / "config.yaml")
    assert made.prompt.system.startswith("You are an expert competitive programmer")
    assert made.prompt.template.endswith("{statement}\n\nPlease provide your C++ solution:")
    assert made.decoding.repetition_penalty == 1.3
    before = [(out / name).read_bytes() for name in RECORDS]
    make(path)  # what it left to the model is found again
    make(config_of(**{**yaml.safe_load((out / "config.yaml").read_text()), "out": str(out)}))
    assert [(out / name).read_bytes() for name in RECORDS] == before
    for other in ({}, {"prompt": {"system": "none"}}):
        with pytest.raises(RunDirectoryError, match="holds another run.*prompt"):
            make(config_of(**small, **other))


def test_models_whose_penalties_differ_need_a_number(config_of, chat_base, tmp_path):
    other = shutil.copytree(chat_base, tmp_path / "other")
    arms = [*_first_arm(config_of), {"name": "other", "kind": "merged", "model": str(other)}]
    decoding = {"max_new_tokens": 4, "repetition_penalty": "from_model"}
    for penalty, words in ((1.2, "differ .base has 1, other has 1.2"), ("x", "is 'x', expected")):
        settings = json.dumps({"eos_token_id": 1, "repetition_penalty": penalty})
        (other / "generation_config.json").write_text(settings)
        with pytest.raises(ModelError, match=words):
            make(config_of(arms=arms, decoding=decoding))


def test_a_problem_that_cannot_be_asked_is_listed_and_the_others_run(config_of, sum_suite, caplog):
    file = sum_suite / "problems.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[2]["statement"] += "\udc80"  # a byte that is not UTF-8
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, results = make(config_of(arms=_first_arm(config_of), decoding={"max_new_tokens": 4}))
    records = read(out / "verdicts.jsonl", VerdictRecord.from_row).values()
    assert {record.problem for record in records} == {"S0", "S1", "S3", "S4", "S5"}
    reason = "S2 (its statement is no valid Unicode: character 12 is half of a pair"
    assert reason in results.sentences[0]
    assert reason in (out / "report.md").read_text()
    assert "1 cannot be asked: S2" in caplog.text
    make(config_of(arms=_first_arm(config_of), decoding={"max_new_tokens": 4}))
    assert list(RunDirectory(out).read_facts().left_out) == ["S2"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_of_something_else_is_left_alone(config_of, tmp_path, overwrite):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="not a run's directory"):
        make(config_of(), overwrite=overwrite)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]
