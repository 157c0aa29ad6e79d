"""The files of a finished run."""

import json
import re
from html import unescape

import pandas as pd
import pytest

from evaluator.report.html.page import COLUMNS, DATA
from evaluator.report.results import write_results
from tests.evaluator.report.made_up import begun, facts


def test_files_of_a_run(tmp_path):
    directory = begun(tmp_path, facts())
    results = write_results(directory)
    frames, texts = {"arms", "verdicts", "groups", "token_level"}, {"arms", "verdicts"}
    texts |= {"languages", "sensitivity"}
    assert {p.name for p in directory.tables.iterdir()} == {
        *(f"{name}.{kind}" for name in frames for kind in ("csv", "parquet")),
        *(f"{name}.{kind}" for name in texts for kind in ("md", "tex")),
    }
    from_csv = pd.read_csv(directory.tables / "arms.csv")
    from_parquet = pd.read_parquet(directory.tables / "arms.parquet")
    assert list(from_csv["pass_rate"]) == list(from_parquet["pass_rate"]) == [0.3, 0.6, 0.6, 0.3]
    problems = pd.read_parquet(tmp_path / "problems.parquet")
    assert problems["passed_restored"].sum() == 120
    comparisons = json.loads((tmp_path / "comparison.json").read_text())["comparisons"]
    assert [c["verdict"] for c in comparisons] == ["differ", "match", "differ"]
    assert comparisons[1]["provable_margin"] == pytest.approx(0.0149, abs=1e-4)
    assert comparisons[1]["detectable_difference"] > 0.01
    assert all(sentence in (tmp_path / "report.md").read_text() for sentence in results.sentences)


def test_every_set_of_versions_and_machines_is_named(tmp_path):
    directory = begun(tmp_path, facts())
    cpu = {"cpu": "c", "cpus": 2, "device": "cpu", "gpu": None}
    cuda = {**cpu, "device": "cuda:0", "gpu": "Big One"}
    made = {"first": ("8.8", cuda), "second": ("9.9", cuda), "third": ("9.9", cpu)}
    for command, (torch, machine) in {**made, "fourth": ("9.9", cuda)}.items():
        session = {"command": command, "versions": {"torch": torch}, "machine": machine}
        directory.add_session({**session, "sandbox": {"rung": "bwrap"}})
    write_results(directory)
    for kind in ("md", "tex"):
        assert "Made by `third` with" in (directory.tables / f"arms.{kind}").read_text()
    report = (tmp_path / "report.md").read_text()
    big = "Machine: c, 2 cores, cuda:0 (Big One); sandbox: bwrap.  \n"
    assert report.endswith(
        "Its records are from 3 sets of versions and machines:  \n"
        f"Made by `first` with torch 8.8.  \n{big}Made by `fourth` with torch 9.9.  \n{big}"
        "Made by `third` with torch 9.9.  \nMachine: c, 2 cores, cpu; sandbox: bwrap.\n"
    )
    page = (tmp_path / "report.html").read_text()
    assert "<p>Made by third with torch 9.9.</p>\n<p>Machine: c, 2 cores, cpu; sandbox" in page


def test_report_and_page_say_first_what_matters_and_how_it_was_made(tmp_path):
    run = facts()
    run.config["compute_dtype"] = "bfloat16"
    directory = begun(tmp_path, run)
    machine = {"cpu": "c", "cpus": 2, "device": "cpu", "gpu": None}
    session = {"command": "x", "versions": {"torch": "9"}, "machine": machine, "sandbox": {}}
    directory.add_session(session | {"started": "2026-01-02T03:04:05+00:00", "commit": "abc+"})
    write_results(directory)
    report, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    lines = report.splitlines()
    assert lines[2].startswith("- base: 30.0 % pass [") and lines[2].endswith(": control")
    assert lines[3].startswith("- restored: 60.0 % pass [") and lines[3].endswith(": reference")
    points = r"- nf4: 60\.0 % pass \[.*\], 0\.0 \[.*\] points against restored: match"
    assert re.fullmatch(points, lines[4])
    for text in (report, page):
        assert "samples 1, temperature 0.8, batch_size 16, seed 0; computed in bfloat16." in text
        assert "base (base), 2222222222222222; restored (restored), 2222222222222222;" in text
        assert "on 2026-01-02 with torch 9, commit abc+" in text
    assert all(line[2:] in unescape(page) for line in lines[2:5])
    there = [name for name in DATA if name not in ("generations.jsonl",)]  # which this run lacks
    assert all(f'href="{name}"' in page and (tmp_path / name).is_file() for name in there)
    explained = {name for names in COLUMNS for name in names.split(", ")}
    assert {"capture", "residual", "verdict", "p", "score", "gained / lost"} <= explained


def test_arms_may_be_called_as_columns_are(tmp_path):
    names = ("by", "group", "problems", "problem", "family", "language", "arm", "AC")
    run = facts(kinds={"restored": "restored"} | dict.fromkeys(names, "merged"))
    directory = begun(tmp_path, run)
    write_results(directory)
    languages = (directory.tables / "languages.md").read_text()
    assert f"| language | problems | restored | {' | '.join(names)} |" in languages
    assert f"| en | 100 |{' 60.0 % |' * 9}" in languages
