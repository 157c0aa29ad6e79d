"""What both command lines share: how they show, how they end, and what they import."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.logging import RichHandler
from rich.table import Table
from typer.testing import CliRunner

import evaluator.cli
import exporter.cli
from tinylora import terminal
from tinylora.terminal import err, print_json, progress_bars, screen, show_table, warn

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is imported")

sys.meta_path.insert(0, Blocked())
from {package}.cli import app
app(sys.argv[1:])
"""
HEAVY = {"torch", "transformers", "bitsandbytes", "peft", "accelerate"}


def call(package, *arguments, blocked=frozenset(), **environment):
    """A command in a process of its own that cannot import what is blocked."""
    program = BLOCKED.format(package=package, blocked=set(blocked) or "()")
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        cwd=ROOT,
        env=os.environ | environment,
    )


@pytest.fixture
def judge(sum_suite, tmp_path):
    """Arguments of a command that judges one text, but its ``--out``."""
    completions = tmp_path / "c.jsonl"
    completions.write_text('{"problem": "S1", "completion": "none"}\n')
    return ["judge", "--suite", str(sum_suite), "--completions", str(completions)]


def test_judge_import_and_plan_need_no_torch(judge, tmp_path):
    for arguments in (
        (*judge, "--out", tmp_path / "judged"),
        ("import", ROOT / "demo/suite/heldout/data", "--out", tmp_path / "imported"),
        ("plan", "--margin", "0.02", "--flip-rate", "0.02"),
    ):
        result = call("evaluator", *arguments, blocked=HEAVY)
        assert result.returncode == 0, result.stderr.decode()


@pytest.mark.parametrize("package", ["exporter", "evaluator"])
def test_version_and_help_import_no_library_that_takes_seconds(package):
    heavy = HEAVY | {"numpy", "pandas", "scipy", "pydantic", "matplotlib", "yaml"}
    for option in ("--version", "--help"):
        result = call(package, option, blocked=heavy)
        assert result.returncode == 0 and result.stdout, result.stderr.decode()


def test_inspect_needs_no_transformers():
    blocked = HEAVY - {"torch"} | {"pandas"}
    result = call("exporter", "inspect", "demo/tiny_lora_v.pt", blocked=blocked)
    assert result.returncode == 0, result.stderr.decode()


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_tables_need_no_torch_and_no_console_encoding(encoding, whole):
    """The minus of a difference is none of GBK's characters; it once ended in a traceback."""
    options = {"blocked": HEAVY, "PYTHONIOENCODING": encoding}
    result = call("evaluator", "table", whole[0], **options)
    assert result.returncode == 0, result.stderr.decode()
    text = result.stdout.decode(encoding)
    assert "restored" in text and "?" not in text
    found = json.loads(call("evaluator", "table", whole[0], "--json", **options).stdout)
    assert found["ok"] and found["comparisons"] and Path(found["html"]).is_file()
    assert [row["arm"] for row in found["tables"][0]["rows"]] == ["base", "restored", "dense"]


def test_a_minus_is_shown_as_one():
    assert "−5 δ ≥".encode("ascii", "spelled") == b"-5 delta >="
    assert "题−".encode("gbk", "spelled").decode("gbk") == "题-"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_is_split_and_not_squeezed(width, monkeypatch, capsys):
    monkeypatch.setattr(screen, "_width", width)
    header = ["arm", *(f"column {n}" for n in range(12))]
    rows = [[f"arm-{r}", *(f"{r}.{n} [−3.1, 5.2]" for n in range(12))] for r in range(3)]
    show_table("Title", header, rows)
    shown = capsys.readouterr().out
    assert all(cell_len(line) <= width for line in shown.splitlines())
    assert all(cell in shown for row in rows for cell in row)  # no cell is broken
    assert shown.count("arm-0") == shown.count("arm-2") >= (1 if width == 200 else 3)


def test_progress_without_a_terminal_is_lines(monkeypatch, capsys):
    seconds = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(seconds))
    with progress_bars() as bars:
        for done in (0, 1, 4, 5):
            bars("generate base", done, 5)
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "generate base: 4 of 5 after 0:40, about 0:10 left",
        "generate base: 5 of 5 after 0:50",
    ]


@pytest.mark.parametrize("force", [True, False])
def test_nothing_that_is_shown_moves_the_cursor_or_is_markup(force, monkeypatch, capsys):
    """Names of files and models reach the screen in logs, bars and tables, too."""
    monkeypatch.setattr(err, "_force_terminal", force)
    evil = (
        "[bold]x[/bold] [link=file:///etc]y[/link] \x1b]0;title\x07 \x1b[2J \x9b31m \u202eb \ud800"
    )
    handler = RichHandler(console=err, show_path=False)
    handler.emit(logging.makeLogRecord({"msg": evil, "levelno": 30, "levelname": "WARNING"}))
    with progress_bars() as bars:
        bars(f"generate {evil}", 1, 1, evil)
    warn(evil)
    show_table(evil, ["arm"], [[evil]])
    err.print(Table(evil, title=evil))
    shown = "".join(capsys.readouterr())
    own = re.sub(r"\x1b\[(?!2J|31m)[\d;?]*[A-Za-z]", "", shown)  # colours, the bar's cursor
    assert not re.search("[\x07\x1b\x9b\u202e\ud800]", own)
    assert shown.count("[bold]") >= 5 and shown.count("[2J") == shown.count(r"\x1b[2J") >= 5


def test_json_holds_no_control_characters(capsys):
    print_json({"name": "\x9b31m\u202e\ud800\n"})
    shown = capsys.readouterr().out
    assert shown.isascii() and json.loads(shown) == {"name": "\x9b31m\u202e\ud800\n"}


def test_quiet_shows_results_and_no_progress(judge, tmp_path, monkeypatch):
    monkeypatch.setattr(err, "shows_progress", True)
    loud = CliRunner().invoke(evaluator.cli.app, [*judge, "--out", str(tmp_path / "a")])
    quiet = CliRunner().invoke(evaluator.cli.app, ["--quiet", *judge, "--out", str(tmp_path / "b")])
    assert loud.exit_code == quiet.exit_code == 0
    assert "1 of 1" in loud.stderr and quiet.stderr == ""
    assert "0 of 1 pass" in quiet.stdout


@pytest.mark.parametrize("variable", ["NO_COLOR", "none"])
def test_no_color_is_obeyed(variable):
    result = call("exporter", "inspect", "no/such/file", FORCE_COLOR="1", **{variable: "1"})
    assert result.returncode == 2
    assert (b"\x1b[" in result.stderr) is (variable == "none")


STOPPED = {
    "merge": ("exporter.make_export.export", "mine.partial-export"),
    "inspect": ("exporter.inspection.inspect_adapter", "Nothing was written"),
    "verify": ("exporter.verification.verify", "as it was"),
    "split": ("exporter.splitting.split", "Nothing was written"),
    "run": ("evaluator.config.run_config.load_config", "the same command goes on"),
    "effect": ("evaluator.config.run_config.load_config", "Nothing was written"),
    "table": ("evaluator.report.results.write_results", "the same command"),
    "import": ("evaluator.suites.import_suite.import_suite", "Nothing was written"),
    "prompts": ("evaluator.config.run_config.load_config", "Nothing was written"),
    "plan": ("evaluator.plan.make_plan", "Nothing was written"),
    "schema": ("evaluator.config.run_config.RunConfig.model_json_schema", "Nothing was written"),
    "bench": ("evaluator.bench.config.load_bench", "the same command goes on"),
    "judge": ("evaluator.judging.judge_file.judge_completions", "the same command goes on"),
}
ARGUMENTS = {
    "merge": ["--base", "b", "--artifact", "a", "--out", "mine"],
    "judge": ["--suite", "s", "--completions", "c", "--out", "o"],
    "import": ["x", "--out", "o"],
    "plan": ["--margin", "0.02", "--flip-rate", "0.02"],
    "schema": ["run"],
    "split": ["x", "--out", "o"],
}
APPS = {
    found.name or found.callback.__name__: app
    for app in (exporter.cli.app, evaluator.cli.app)
    for found in app.registered_commands
}


@pytest.mark.parametrize("name", APPS)
def test_ctrl_c_says_what_is_kept_and_leaves_no_traceback(name, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    where, words = STOPPED[name]
    monkeypatch.setattr(where, interrupted)
    call = [name, *ARGUMENTS.get(name, ["x"])]
    result = CliRunner().invoke(APPS[name], call)
    assert result.exit_code == 130 and result.stdout == ""
    assert "Interrupted." in result.stderr and words in " ".join(result.stderr.split())
    if name not in ("prompts", "schema"):  # which print JSON anyway
        as_json = CliRunner().invoke(APPS[name], [*call, "--json"])
        assert json.loads(as_json.stdout)["error"]["kind"] == "Interrupted"


@pytest.mark.parametrize(
    ("error", "code", "kind", "words"),
    [
        (KeyboardInterrupt(15), 143, "Interrupted", "Interrupted. "),
        (OSError(28, "No space left", "o/v.jsonl"), 2, "OSError", "o/v.jsonl: No space left; mak"),
        (OSError(28, "No space left"), 2, "OSError", "No space left; make room"),
    ],
)
def test_sigterm_and_the_disk_end_a_command_in_words_too(monkeypatch, error, code, kind, words):
    def ended(*_, **__):
        raise error

    monkeypatch.setattr(STOPPED["judge"][0], ended)
    call = ["judge", *ARGUMENTS["judge"], "--json"]
    result = CliRunner().invoke(evaluator.cli.app, call)
    assert result.exit_code == code
    assert json.loads(result.stdout)["error"]["kind"] == kind
    shown = " ".join(result.stderr.split())
    assert words in shown and STOPPED["judge"][1] in shown


def test_a_folder_that_cannot_be_made_is_named(judge, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        result = CliRunner().invoke(evaluator.cli.app, [*judge, "--out", str(out)])
        assert result.exit_code == 2 and str(out) in result.stderr.replace("\n", "")
