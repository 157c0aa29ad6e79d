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
    assert "tiny: 6 problems" in made.stdout
    assert "no restored arm" in made.stdout
    assert "generate base" in made.stderr
    again = cli("table", tmp_path / "out")
    assert again.exit_code == 0
    assert again.stdout == made.stdout


def test_errors_go_to_stderr_with_exit_code_2(cli, config, tmp_path):
    for arguments in (("run", tmp_path / "none.yaml"), ("table", tmp_path)):
        result = cli(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert str(tmp_path) in result.stderr
        assert "Traceback" not in result.stderr
    config.write_text(config.read_text().replace("max_new_tokens", "max_tokens"))
    result = cli("run", config)
    assert result.exit_code == 2
    assert "field decoding.max_tokens" in result.stderr


def test_names_in_files_are_no_markup_and_no_terminal_codes(cli, config, tmp_path):
    assert cli("run", config).exit_code == 0
    facts = tmp_path / "out" / "run.json"
    content = json.loads(facts.read_text())
    for problem, language in zip(content["problems"], ("[/x]", "\x1b[31mzh\x07") * 3, strict=True):
        problem["language"] = language
    facts.write_text(json.dumps(content))
    shown = cli("table", tmp_path / "out")
    assert shown.exit_code == 0, shown.stderr
    assert "[/x]" in shown.stdout and r"\x1b[31mzh\x07" in shown.stdout
    assert "\x1b[31mzh" not in shown.stdout


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
    assert "Without code: 1" in result.stdout
    assert "line 4: problem 'P0' is not in suite 'sums'" in result.stderr
    assert "not judged, in all: 12" in result.stderr and "line 15" not in result.stderr
    settings = json.loads((out / "judge.json").read_text())["settings"]
    assert (settings["standard"], settings["checker_standard"]) == ("c++14", "c++17")
    assert settings["checker_compile_cpu_ms"] == 90_000
    assert cli("judge", *arguments, "--standard", "c++77").exit_code == 2
    completions.write_text(json.dumps(rows[0]) + "\n")
    assert cli("judge", *arguments[:-1], tmp_path / "other").exit_code == 0
