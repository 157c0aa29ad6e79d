"""The page on suites: every command runs on what it shows, in both languages the same."""

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from evaluator.cli import app
from evaluator.suites.importers.draft import SkipKind
from evaluator.suites.importers.drafts_to_problems import DefaultLimits
from evaluator.suites.importers.forms import forms
from evaluator.suites.problem import Problem, TestCase
from evaluator.suites.suite import load_suite
from tests.evaluator.suites.archives import make_folder, make_zip

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE, CHINESE = (
    (DOCS / name).read_text(encoding="utf-8") for name in ("suites.md", "suites.zh-CN.md")
)
COMMANDS = "".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.S | re.M)).splitlines()
ROWS = re.findall(r"^```json\n(.*?)^```$", PAGE, re.S | re.M)
FILES = ("rl_data.jsonl", "dpo.jsonl", "code_contests.jsonl", "apps.jsonl")
DATA = {"a1.in": "1 2\n", "a1.out": "3\n", "a2.in": "4 5\n", "a2.ans": "9\n"}


@pytest.fixture
def sources(tmp_path):
    """Everything that the commands name."""
    datasets = pytest.importorskip("datasets")
    for name, row in zip(FILES, ROWS, strict=True):
        (tmp_path / name).write_text(row, encoding="utf-8")
    row = {"prompt": load_suite(tmp_path / "dpo.jsonl").problems[0].statement}
    datasets.Dataset.from_list([row]).save_to_disk(str(tmp_path / "saved_dataset"))
    (config,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.S | re.M)
    (tmp_path / "data").mkdir()
    make_zip(tmp_path / "data" / "P1001.zip", DATA | {"config.yml": config})
    (tmp_path / "data" / "P1001.md").write_text("# P1001 A+B")
    files = {"1.in": "1", "1.out": "2", "checker.cpp": "x", "statement.md": "# P1002 x"}
    make_folder(tmp_path / "data" / "P1002", files)
    return tmp_path


def test_every_command_runs(sources, monkeypatch):
    monkeypatch.chdir(sources)
    made = {}
    for command in COMMANDS:
        name, *arguments = shlex.split(command)
        assert name == "tinylora-eval"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        made.setdefault(arguments[arguments.index("--out") + 1], []).append(result.stdout)
    suites = {out: load_suite(out) for out in made}
    (shown,) = re.findall(r"^```\n(suites/rl:.*?)^```$", PAGE, re.S | re.M)
    assert made["suites/rl"] == [shown]
    assert suites["suites/saved"].name == "luogu-samples"
    assert {out: [p.id for p in suite.problems] for out, suite in suites.items()} == {
        "suites/rl": ["P1001"],
        "suites/samples": ["P1001"],
        "suites/saved": ["P1001"],
        "suites/contests": ["1_A. Sum"],
        "suites/apps": ["7"],
        "suites/data": ["P1001", "P1002"],
        "suites/one": ["P1001"],
    }
    one, *_ = suites["suites/data"].problems
    assert one.statement.startswith("# P1001 A+B Problem")  # of --statements, not of P1001.md
    assert [one.limits(test) for test in one.tests] == [(1000, 131072), (2000, 262144)]
    assert suites["suites/contests"].problems[0].time_limit_ms == 2000
    assert suites["suites/one"].problems[0].memory_limit_kib == 512 * 1024


def test_both_languages_show_the_same_blocks_and_tables():
    pages = (PAGE, CHINESE)
    for pattern in (r"(?s)^```.*?^```$", r"^ {4}.*$", r"^\| `([\w-]+)` \|", r"^(?:#+) "):
        english, chinese = (re.findall(pattern, page, re.M) for page in pages)
        assert english == chinese != []


def test_tables_of_the_page_are_complete():
    fields = {*Problem.__dataclass_fields__, *TestCase.__dataclass_fields__, "archive"}
    assert {*get_args(SkipKind), *fields, *forms()} <= set(re.findall(r"`([^`\n]+)`", PAGE))
    assert DefaultLimits() == DefaultLimits(1000, 131072)
