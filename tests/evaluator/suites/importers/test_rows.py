"""Containers of rows: JSON lines and arrays, gzip, Parquet, saved data sets, folders of files."""

import gzip
import json
import re
import time

import pyarrow
import pytest
from pyarrow import parquet

from evaluator.errors import SuiteError
from evaluator.suites.importers import json_rows, rows
from evaluator.suites.suite import load_suite

CASES = [{"input": "1", "output": "2"}]


def test_blank_lines_and_a_byte_order_mark(write, read):
    row = json.dumps({"prompt": "x", "test_cases": CASES})
    problems, [double] = read(write("a.jsonl", f"\ufeff{row}\r\n\n  \n{row}"))
    assert list(problems) == ["1"] and double.where == "line 4"


def test_lines_are_bounded(write, monkeypatch):
    monkeypatch.setattr(json_rows, "MAX_BYTES", 50)
    text = '{"a": 1}\n{"a": "' + "x" * 100 + '"}\n{"a": 3}'
    one, long, three = rows.read_rows(write("a.jsonl", text))
    assert (one.values, three.values, three.where) == ({"a": 1}, {"a": 3}, "line 3")
    assert long.fault.startswith("more than") and long.where == "line 2"


GOOD = [{"prompt": f"# P{n} x", "test_cases": CASES} for n in (1, 2)]
A, B = map(json.dumps, GOOD)


@pytest.mark.parametrize(
    "text",
    [f"[{A},{B}]", f"\ufeff[\n {A},\n {B}\n]\n", json.dumps(GOOD, indent=2), f"[{A}\n,{B}]"]
    + [f" \n [ {A} , {B} ] "],
)
def test_an_array_has_the_same_rows_as_lines(write, read, text):
    problems, skipped = read(write("rows.json", text))
    assert list(problems) == ["P1", "P2"] and not skipped
    assert problems["P2"].source == "rows.json, item 2"


@pytest.mark.parametrize("text", ["[\n", f"[{A}]\n"])
def test_an_array_among_lines_says_how_its_file_is_named(write, text):
    first, second = rows.read_rows(write("rows.jsonl", text + A))
    assert "name a file of one array .json" in first.fault and second.values == GOOD[0]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("5", "expected a JSON object, found int"),
        ("{", "not JSON"),
        ('{"a": [1, "],}"}', "not JSON"),
        ("[" * 5000 + "]" * 5000, "not JSON .*recursion|found list"),
        ('{"a": 1} {"b": 2}', "no comma after it"),
        ('{"prompt": "\udcff", "test_cases": []}', "no tests|half of a character"),
    ],
)
def test_a_bad_item_of_an_array_is_listed_and_the_others_are_kept(write, read, bad, words):
    problems, [skipped] = read(write("rows.json", f"[{A}, {bad}, {B}]"))
    assert list(problems) == ["P1", "P2"] and skipped.where == "item 2"
    assert re.search(words, skipped.reason)


@pytest.mark.parametrize("tail", ["", "]]", "] x", ", "])
def test_an_array_that_does_not_end_as_it_should_is_told(write, read, tail):
    problems, [skipped] = read(write("rows.json", f"[{A}, {B}{tail}"))
    assert list(problems) == ["P1", "P2"] and "array does not end" in skipped.reason


@pytest.mark.parametrize(
    "text", ["x," * 500_000, '{"a":' * 30_000 + ('{"b":' * 3_000 + ", ") * 40 + "x," * 500_000]
)
def test_an_array_of_nothing_but_faults_takes_little_time(write, text):
    path, start = write("rows.json", f"[{text}"), time.process_time()
    assert len(list(rows.read_rows(path))) < 200
    assert time.process_time() - start < 2


@pytest.mark.parametrize("text", [f"{A}\n{B}\n", f"[{A},{B}]"])
def test_gzip_is_unpacked_whatever_the_name(write, read, text):
    path = write("rows.dat", gzip.compress(text.encode()))
    problems, skipped = read(path)
    assert list(problems) == ["P1", "P2"] and not skipped
    assert load_suite(path).digest == load_suite(path).digest


def test_a_torn_gzip_keeps_what_came_before(write, read):
    noise = "".join(chr(ord("a") + n * n * 7919 % 26) for n in range(200_000))
    packed = gzip.compress(f"{A}\n{json.dumps({'prompt': noise})}\n{B}\n".encode())
    problems, [skipped] = read(write("rows.jsonl.gz", packed[: len(packed) // 2]))
    assert list(problems) == ["P1"] and skipped.where == "line 2"
    assert "the packed file is broken from here on" in skipped.reason


def test_a_gzip_bomb_is_not_unpacked_to_its_end(write):
    path = write("rows.jsonl.gz", gzip.compress(f"{A}\n".encode() + b"\n" * (64 << 20)))
    start = time.process_time()
    *_, last = rows.read_rows(path)
    assert "unpacks to far more than itself" in last.fault and time.process_time() - start < 8


def write_parquet(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(found), path)
    return path


def test_parquet_has_the_same_problems_as_lines_and_a_broken_one_none(tmp_path, write_rows, read):
    path = write_parquet(tmp_path / "rows.parquet", GOOD * 20)
    problems, doubles = read(path)
    assert list(problems) == ["P1", "P2"] and doubles[-1].where == "row 40"
    assert load_suite(path).digest == load_suite(write_rows(*GOOD)).digest
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SuiteError, match="rows.parquet, row 1: not readable"):
        read(path)


def test_a_folder_of_row_files_is_read_in_order(tmp_path, read):
    write_parquet(tmp_path / "hub/data/train-00001.parquet", GOOD[1:])
    write_parquet(tmp_path / "hub/data/train-00000.parquet", GOOD[:1])
    (tmp_path / "hub" / "README.md").write_text("about")
    problems, skipped = read(tmp_path / "hub")
    assert list(problems) == ["P1", "P2"] and not skipped
    assert problems["P2"].source == "hub, data/train-00001.parquet, row 1"
    assert load_suite(tmp_path / "hub").digest


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
    for text in ("{", "[]", '{"_data_files": [{"filename": "../splits/state.json"}]}'):
        (tmp_path / "one" / "state.json").write_text(text)
        with pytest.raises(SuiteError, match="one: not a data set as save_to_disk writes it"):
            read(tmp_path / "one")
    assert [p.id for p in load_suite(tmp_path / "splits").problems] == ["P1", "P2"]
