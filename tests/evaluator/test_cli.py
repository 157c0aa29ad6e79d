import json

import pytest
import yaml
from typer.testing import CliRunner

from evaluator.cli import app

RIGHT = "```cpp\n#include<iostream>\nint main(){int a;std::cin>>a;std::cout<<a+1;}\n```\n"


@pytest.fixture
def cli():
    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def config(tmp_path, chat_base, sum_suite):
    content = {
        "name": "tiny",
        "suite": str(sum_suite),
        "out": str(tmp_path / "out"),
        "arms": [{"name": "base", "kind": "base", "model": str(chat_base)}],
        "decoding": {"max_new_tokens": 4},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_run_then_table_print_the_same_numbers(cli, config, tmp_path):
    made = cli("run", config)
    assert made.exit_code == 0, made.stderr
    assert "tiny: 6 problems" in made.stdout and "Sandbox: " in made.stdout
    assert "no restored arm" in made.stdout
    assert "generate base" in made.stderr
    assert f"The page to read: {tmp_path / 'out' / 'report.html'}" in made.stdout
    again = cli("table", tmp_path / "out")
    assert again.exit_code == 0
    assert again.stdout == made.stdout


def test_errors_go_to_stderr_with_exit_code_2(cli, tmp_path):
    for arguments in (("run", tmp_path / "none.yaml"), ("table", tmp_path)):
        result = cli(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert str(tmp_path) in result.stderr and "Traceback" not in result.stderr


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(cli, config, tmp_path):
    changes = ("--set", "decoding.samples=2", "--set", "decoding.temperature=0.8", "--limit", "3")
    shown = cli("run", config, "--dry-run", *changes, "--json")
    assert shown.exit_code == 0, shown.stderr
    (table,) = json.loads(shown.stdout)["tables"]
    assert table["title"].startswith("tiny: 3 problems, would be written to")
    (row,) = table["rows"]
    assert (row["arm"], row["completions"], row["there"]) == ("base", "6", "0")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("decoding.sample=2", "field decoding.sample: there is no such field; did you mean"),
        ("decoding.samples=many", "field decoding.samples: expected a valid integer"),
        ("decoding.samples", "expected field=value"),
        ("arms.5.seed=1", "expected field=value"),
        ("arms.x=1", "expected field=value"),
        ("name.x=1", "expected field=value"),
        ("decoding=[", "decoding=, line 1, column 2: not valid YAML"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(change, said, cli, config):
    result = cli("run", config, "--dry-run", "--set", change)
    assert result.exit_code == 2 and said in " ".join(result.stderr.split())


def test_a_dry_run_counts_what_every_process_of_a_killed_launch_wrote(cli, config, tmp_path):
    assert cli("run", config).exit_code == 0
    out = tmp_path / "out"
    rows = (out / "generations.jsonl").read_bytes().splitlines(keepends=True)
    (out / "generations.jsonl").write_bytes(b"".join(rows[:3]))
    (out / "generations.rank-0001.jsonl").write_bytes(b"".join(rows[2:5]) + b'{"torn')
    shown = json.loads(cli("run", config, "--dry-run", "--json").stdout)["tables"]
    assert shown[0]["rows"][0]["there"] == "5"


def test_a_limited_run_takes_the_first_problems(cli, config, tmp_path):
    assert cli("run", config, "--limit", "2").exit_code == 0
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [problem["id"] for problem in facts["problems"]] == ["S0", "S1"]
    records = (tmp_path / "out" / "generations.jsonl").read_bytes()
    rows = json.loads(cli("run", config, "--limit", "2", "--dry-run", "--json").stdout)["tables"]
    assert rows[0]["rows"][0]["there"] == "2"
    whole = cli("run", config)
    assert whole.exit_code == 2 and "choose another out" in " ".join(whole.stderr.split())
    assert (tmp_path / "out" / "generations.jsonl").read_bytes() == records


def test_judge_a_file_of_completions(cli, sum_suite, tmp_path):
    completions, out = tmp_path / "completions.jsonl", tmp_path / "judged"
    rows = [
        {"problem": "S1", "sample": 0, "completion": RIGHT},
        {"problem": "S2", "sample": 0, "completion": RIGHT},
        {"problem": "S3", "sample": 0, "completion": "I do not know."},
    ]
    rows += [{"problem": f"P{n}", "completion": ""} for n in range(12)]
    completions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("--suite", sum_suite, "--completions", completions, "--out", out)
    options = ("--checker-standard", "c++17", "--checker-compile-seconds", "90")
    result = cli("judge", *arguments, *options)
    assert result.exit_code == 1  # some rows are not judged
    assert "1 of 3 pass: AC 1, CE 1, WA 1" in result.stdout
    assert "Without code: 1" in result.stdout and "Sandbox: " in result.stdout
    assert "line 4: problem 'P0' is not in suite 'sums'" in result.stderr
    assert "not judged, in all: 12" in result.stderr and "line 15" not in result.stderr
    settings = json.loads((out / "judge.json").read_text())["settings"]
    assert (settings["standard"], settings["checker_standard"]) == ("c++14", "c++17")
    assert settings["checker_compile_cpu_ms"] == 90_000
    assert cli("judge", *arguments, "--standard", "c++77").exit_code == 2
    completions.write_text(json.dumps(rows[0]) + "\n")
    assert cli("judge", *arguments[:-1], tmp_path / "other").exit_code == 0
