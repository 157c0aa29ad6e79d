"""Containers of rows: JSON lines and saved data sets."""

import json

import pytest

from evaluator.errors import SuiteError
from evaluator.suites.importers import rows
from evaluator.suites.importers.source import detect_form, form_of
from evaluator.suites.suite import load_suite

CASES = [{"input": "1", "output": "2"}]


def test_blank_lines_and_a_byte_order_mark(tmp_path, read):
    path = tmp_path / "a.jsonl"
    row = json.dumps({"prompt": "x", "test_cases": CASES})
    path.write_bytes(b"\xef\xbb\xbf" + row.encode() + b"\r\n\n  \n" + row.encode())
    problems, [double] = read(path)
    assert list(problems) == ["1"] and double.where == "line 4"


def test_lines_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": "' + "x" * 100 + '"}\n')
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 50)
    with path.open("a") as stream:
        stream.write('{"a": 3}')
    one, long, three = rows.read_rows(path)
    assert (one.values, three.values, three.where) == ({"a": 1}, {"a": 3}, "line 3")
    assert long.fault.startswith("more than 50 bytes") and long.where == "line 2"


def test_what_is_not_there(tmp_path, read):
    with pytest.raises(SuiteError, match="no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(SuiteError, match="cannot be read"):
        list(rows.read_rows(tmp_path / "none.jsonl"))


def test_forms_are_named(tmp_path):
    assert form_of(None) is None and form_of("luogu-data") == "luogu-data"
    with pytest.raises(SuiteError, match="no form 'dpo'; the forms are upstream, statements"):
        form_of("dpo")
    (tmp_path / "suite.json").write_text("{}")
    with pytest.raises(SuiteError, match="is a suite already"):
        detect_form(tmp_path)


def test_saved_data_sets(tmp_path, read):
    """All splits, in their order; structs come back as they went in."""
    datasets = pytest.importorskip("datasets")
    text = "# P{} x\n\n**输入：**\n```\n 1\n```\n**输出：**\n```\n2\n```\n"
    turns = [[{"from": "human", "value": text.format(n)}] for n in (1, 1, 2)]
    data = datasets.Dataset.from_dict({"conversations": turns, "chosen": ["a", "b", "c"]})
    data.save_to_disk(str(tmp_path / "one"))
    problems, [double] = read(tmp_path / "one")
    assert list(problems) == ["P1", "P2"] and double.where == "row 2"
    assert problems["P1"].tests[0].input == " 1\n"
    splits = {"train": data, "test": data.select([2])}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "splits"))
    problems, skipped = read(tmp_path / "splits")
    assert list(problems) == ["P1", "P2"] and [s.where for s in skipped] == ["row 2", "row 4"]
    (tmp_path / "one" / "dataset_info.json").write_text("{")
    with pytest.raises(SuiteError, match="not a data set that load_from_disk reads"):
        read(tmp_path / "one")
    assert [p.id for p in load_suite(tmp_path / "splits").problems] == ["P1", "P2"]
