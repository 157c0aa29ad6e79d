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
    completions = tmp_path / "completions.jsonl"
    rows = [
        {"problem": "S1", "sample": 0, "completion": RIGHT},
        {"problem": "S2", "sample": 0, "completion": RIGHT},
        {"problem": "S3", "sample": 0, "completion": "I do not know."},
    ]
    completions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("--suite", sum_suite, "--completions", completions, "--out", tmp_path / "judged")
    result = cli("judge", *arguments)
    assert result.exit_code == 0, result.stderr
    assert "1 of 3 pass: AC 1, CE 1, WA 1" in result.stdout
    assert "Without code: 1" in result.stdout
    assert cli("judge", *arguments, "--standard", "c++77").exit_code == 2


def test_rows_that_are_not_judged_are_named_and_the_exit_code_says_so(cli, sum_suite, tmp_path):
    path = tmp_path / "c.jsonl"
    rows = [{"problem": "S1", "sample": n, "completion": RIGHT * (n + 1)} for n in range(2)]
    rows += [{"problem": f"P{n}", "completion": ""} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = cli("judge", "--suite", sum_suite, "--completions", path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "2 of 2 pass: AC 2" in result.stdout
    assert "line 3: problem 'P0' is not in suite 'sums'" in result.stderr
    assert "not judged, in all: 12" in result.stderr and "line 14" not in result.stderr


def test_the_judge_has_options_for_special_judges(cli, sum_suite, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"problem": "S1", "completion": RIGHT}))
    options = ("--checker-standard", "c++17", "--checker-compile-seconds", "90")
    arguments = ("--suite", sum_suite, "--completions", path, "--out", tmp_path / "out")
    assert cli("judge", *arguments, *options).exit_code == 0
    settings = json.loads((tmp_path / "out" / "judge.json").read_text())["settings"]
    assert (settings["standard"], settings["checker_standard"]) == ("c++14", "c++17")
    assert settings["checker_compile_cpu_ms"] == 90_000
