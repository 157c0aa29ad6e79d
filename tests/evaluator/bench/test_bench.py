"""Whole benches on a tiny model: what is made, what is left alone, what a change costs."""

import json
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
from typer.testing import CliRunner

from evaluator.bench import bench as bench_module
from evaluator.bench import exports as bench_exports
from evaluator.bench.bench import survey
from evaluator.bench.exports import inputs_of, make_export, why_not_there
from evaluator.bench.plan import plan_exports
from evaluator.cli import app
from evaluator.errors import BenchError, RunDirectoryError
from evaluator.generation import stage as generation_stage
from evaluator.store.lock import locked
from tests.evaluator.bench.conftest import EMBEDDED, RUN, make
from tests.evaluator.conftest import write_artifact
from tests.evaluator.whole_runs import identities


@pytest.fixture
def loads(monkeypatch):
    """Names of the arms whose models are loaded from now on."""
    names = []
    load = generation_stage.open_model

    def counted(arm, *rest, **options):
        names.append(arm.name)
        return load(arm, *rest, **options)

    monkeypatch.setattr(generation_stage, "open_model", counted)
    return names


@pytest.fixture
def exported(monkeypatch, whole):
    """Names of the exports that are made from now on, by copying the one of the whole bench."""
    names = []
    first_inputs = json.loads((whole[0] / "requests/tiny/a/nf4-embedded.json").read_text())

    def copy(export):
        inputs = inputs_of(export)
        if not why_not_there(export, inputs):
            return
        names.append(export.name)
        shutil.rmtree(export.out, ignore_errors=True)
        shutil.copytree(whole[0] / "exports/tiny/a/nf4-embedded", export.out)
        # other inputs would give other files
        if inputs != first_inputs:
            (export.out / "made.txt").write_text(json.dumps(inputs))
        export.request.parent.mkdir(parents=True, exist_ok=True)
        export.request.write_text(json.dumps(inputs))

    monkeypatch.setattr(bench_module, "make_export", copy)
    return names


def of_arm(run, arm):
    return [[replace(one, arm="") for one in rows if one.arm == arm] for rows in identities(run)]


def stamps(out):
    """Contents' places and times of everything but what every start writes."""
    return {
        path.relative_to(out): path.stat().st_mtime_ns
        for folder in ("runs", "exports", "factors", "requests", "logs")
        for path in (out / folder).rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_bench_with_failing_parts_makes_the_others(whole):
    out, results, seen = whole
    assert list(results.failures) == ["export tiny/a/lost", "run tiny/a/gone/warm"]
    assert results.failures["export tiny/a/lost"] == "formats.lost.prompts: no file /no/texts"
    assert "/no/such/suite" in results.failures["run tiny/a/gone/warm"]
    assert [row[:4] for row in results.table.rows] == [
        ("a", "sums", "warm", "base"),
        ("a", "sums", "warm", "restored"),
        ("a", "sums", "warm", "nf4-embedded"),
        ("a", "sums", "warm", "lost"),
        ("a", "gone", "warm", "all"),
        ("a", "gone", "warm", "lost"),
    ]
    verdict = results.table.header.index("verdict")
    assert [row[verdict] for row in results.table.rows][-3:] == ["failed"] * 3
    assert len(identities(out / RUN)[0]) == 3 * 4
    # nothing of the delta is lost: equal logits, equal noise, equal texts
    assert of_arm(out / RUN, "nf4-embedded") == of_arm(out / RUN, "restored")
    assert of_arm(out / RUN, "base") != of_arm(out / RUN, "restored")
    stages = {"exports", "runs", "export tiny/a/nf4-embedded", "tiny/a/sums/warm: judge"}
    assert stages <= {stage for stage, _, _ in seen}
    assert seen[-1] == ("runs", 2, 2)


def test_the_table_is_that_of_the_runs(whole):
    out, results, _ = whole
    frame = pd.read_parquet(out / "tables/bench.parquet").set_index(["suite", "arm"])
    assert list(frame["failed"]) == [False, False, False, True, True, True]
    run = pd.read_csv(out / RUN / "tables/arms.csv").set_index("arm")
    for arm, row in run.iterrows():
        mine = frame.loc[("sums", arm)]
        for column in ("pass_rate", "pass_rate_low95", "weight_bytes"):
            assert mine[column] == pytest.approx(row[column], rel=1e-14)
    embedded = frame.loc[("sums", "nf4-embedded")]
    files = (out / "exports/tiny/a/nf4-embedded").glob("*.safetensors")
    assert embedded["weight_bytes"] == sum(path.stat().st_size for path in files)
    assert embedded["capture"] == pytest.approx(1.0, abs=1e-4)
    assert embedded["gained"] == embedded["lost"] == 0
    text = (out / "tables/bench.md").read_text()
    assert results.table.markdown() in text
    assert "Made by `test` with" in text
    assert "- run tiny/a/gone/warm: /no/such/suite" in text
    assert pd.read_csv(out / "tables/bench.csv").shape[0] == 6


def test_what_is_done_is_left_alone(config_of, copied, loads):
    config = config_of()
    assert make(config).failures == {}  # without the format and the suite that failed
    before = stamps(copied)
    results = make(config)
    assert [row[3] for row in results.table.rows] == ["base", "restored", "nf4-embedded"]
    assert stamps(copied) == before
    assert loads == []


def test_a_killed_bench_goes_on_where_it_stopped(config_of, copied, run_server, loads, tmp_path):
    before = identities(copied / RUN)
    shutil.rmtree(copied / RUN)
    config = config_of()
    fields = {"bench": str(tmp_path / "bench.yaml"), "out": str(copied / RUN)}
    for lines in (5, 13):  # of 12 completions and 12 verdicts
        run_server.kill_when_stopped({**fields, "stop_after": lines})
    assert make(config).failures == {}
    assert identities(copied / RUN) == before
    assert loads == []  # all completions were there


def test_an_artifact_costs_its_own_arms_only(
    config_of, copied, chat_artifact, loads, exported, tmp_path
):
    base, before = of_arm(copied / RUN, "base"), identities(copied / RUN)
    _change(copied / RUN / "environment.json", lambda c: c["sessions"][0].update(command="before"))
    # the artifact a has changed, and what it was goes by the name b now
    other = write_artifact(tmp_path, 0.5, "tiny/chat-base", layers=14)
    results = make(config_of(artifacts={"a": other, "b": chat_artifact}))
    assert results.failures == {}
    assert exported == ["tiny/a/nf4-embedded", "tiny/b/nf4-embedded"]
    assert loads == ["restored", "nf4-embedded"]  # of a; all of b is known
    assert of_arm(copied / RUN, "base") == base
    assert identities(copied / RUN) != before
    assert identities(copied / "earlier/tiny/a/sums/warm") == before
    assert identities(copied / "runs/tiny/b/sums/warm") == before
    # whatever made the records is known where they are
    for run in (copied / RUN, copied / "runs/tiny/b/sums/warm"):
        sessions = json.loads((run / "environment.json").read_text())["sessions"]
        assert {session["command"] for session in sessions} == {"before", "test"}


def test_an_outdated_run_that_somebody_writes_stays_with_what_went_before(config_of, copied):
    earlier = copied / "earlier/tiny/a/sums/warm/run.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    before = identities(copied / RUN)
    with locked(copied / RUN):
        failures = make(config_of(prompt={"template": "Add. {statement}"})).failures
    assert ["another process is writing" in text for text in failures.values()] == [True]
    assert identities(copied / RUN) == before
    assert earlier.exists()


def test_a_damaged_export_or_one_with_another_option_is_made_again(config_of, copied):
    (export,) = plan_exports(config_of())
    inputs = inputs_of(export)
    for file in ("model.safetensors", "fidelity.json", "export_manifest.json"):
        assert why_not_there(export, inputs) == ""
        content = (export.out / file).read_bytes()
        (export.out / file).write_bytes(content[:-9] + b"#########")
        assert file in why_not_there(export, inputs)
        (export.out / file).unlink()
        assert file in why_not_there(export, inputs)
        (export.out / file).write_bytes(content)
    (export,) = plan_exports(config_of(formats=[{**EMBEDDED, "adapter_dtype": "fp16"}]))
    assert why_not_there(export, inputs_of(export)) == "changed: options"
    export.request.unlink()
    assert "not known" in why_not_there(export, inputs_of(export))


def test_an_exporter_that_outlived_its_bench_is_waited_for(config_of, copied, monkeypatch):
    monkeypatch.setattr(bench_exports.subprocess, "run", None)  # nothing else may be started
    (export,) = plan_exports(config_of())
    inputs = inputs_of(export)
    kept = export.out.rename(copied / "kept")
    lock = str(copied / "exports/.lock")
    script = f"echo held; sleep 0.5; mv '{kept}' '{export.out}'"
    command = ["flock", lock, "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as exporter:
        exporter.stdout.readline()
        assert why_not_there(export, inputs) == "missing"
        make_export(export)
    assert why_not_there(export, inputs) == ""


def test_why_an_exporter_failed_is_passed_on(config_of, copied, chat_artifact, monkeypatch):
    formats = [{"format": "bf16", "require_capture": 1.5}]
    (export,) = plan_exports(config_of(formats=formats))
    with pytest.raises(BenchError) as caught:
        make_export(export)
    words = "tiny/a/bf16: the exporter ended with 2: --require-capture 1.5: expected a share"
    assert words in str(caught.value) and str(export.log) in str(caught.value)
    monkeypatch.setattr(bench_exports, "_EXPORTER", ("true",))
    with pytest.raises(BenchError, match="not usable after it was made: missing"):
        make_export(export)


def test_margin_and_looks_are_fixed_before_the_first_run(config_of, copied):
    for changed, words in (
        ({"margin": 0.2}, r"margin was 0\.05 when .* is 0\.2 now"),
        ({"margin": 0.05, "looks": 2}, "looks was 1 when .* is 2 now"),
    ):
        with pytest.raises(RunDirectoryError, match=words):
            make(config_of(equivalence=changed))


def test_a_run_is_not_given_up_because_a_gpu_is_out_of_sight(config_of, copied, loads):
    before = identities(copied / RUN)
    _change(copied / RUN / "run.json", lambda content: content["config"].update(device="cuda"))
    (message,) = make(config_of()).failures.values()
    assert "was made with device cuda, and device: auto is cpu" in message
    assert identities(copied / RUN) == before
    assert loads == []
    state = survey(config_of(device="cpu")).rows[-1]
    assert state[2:] == ("outdated", 'config.device was "cuda", is "cpu"')


def _change(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_survey_says_what_is_there_and_writes_nothing(config_of, copied, chat_artifact):
    before = stamps(copied)
    assert survey(config_of(formats=[EMBEDDED, {"format": "bf16"}])).rows == (
        ("export", "tiny/a/nf4-embedded", "there", ""),
        ("export", "tiny/a/bf16", "to make", "missing"),
        ("run", "tiny/a/sums/warm", "to make", "after its exports: bf16"),
    )
    assert survey(config_of()).rows[-1][:3] == ("run", "tiny/a/sums/warm", "finished")
    for name, lines in (("token_level.jsonl", -1), ("verdicts.jsonl", 0)):  # killed before that
        whole = (copied / RUN / name).read_text().splitlines(keepends=True)
        (copied / RUN / name).write_text("".join(whole[:lines]))
        assert survey(config_of()).rows[-1][2] == "begun"
        (copied / RUN / name).write_text("".join(whole))
    other = [{"name": "warm", "temperature": 0.9, "max_new_tokens": 72, "batch_size": 6}]
    _, run = survey(config_of(decodings=other)).rows
    assert run[2] == "outdated"
    assert "config.decoding.temperature was 0.7, is 0.9" in run[3]
    artifact = {"path": str(chat_artifact), "placement": {"model.layers.0.self_attn.q_proj": 0}}
    rows = survey(config_of(artifacts={"a": artifact})).rows
    assert [row[0] for row in rows] == ["export", "run"]
    assert stamps(copied).keys() == before.keys()


def test_a_part_that_the_system_fails_is_listed(config_of, copied, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "generations.jsonl")

    monkeypatch.setattr(bench_module, "make_run", full)
    (failure,) = make(config_of()).failures.values()
    assert "No space left" in failure


def test_the_command_line_prints_the_table_and_counts_failures(config_of, copied, tmp_path):
    def call(*options):
        return CliRunner().invoke(app, ["bench", str(tmp_path / "bench.yaml"), *options])

    config_of(suites=[{"name": "gone", "path": "/no/such/suite"}])
    result, dry = call(), call("--dry-run")
    assert result.exit_code == dry.exit_code == 1 and "failed" in result.stdout
    assert "run tiny/a/gone/warm: /no/such/suite" in result.stderr.replace("\n", "")
    assert "tiny/a/gone/warm" in dry.stdout and "cannot be made" in dry.stdout
    config_of()
    assert call("--dry-run").exit_code == 0


def test_several_processes_are_refused(config_of, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BenchError, match="one process"):
        make(config_of())
