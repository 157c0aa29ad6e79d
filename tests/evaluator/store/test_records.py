import json
from dataclasses import asdict, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluator.errors import RecordsError, RunDirectoryError
from evaluator.store.lock import locked
from evaluator.store.records import (
    GenerationRecord,
    TestRecord,
    VerdictRecord,
    append,
    read,
    rewrite_sorted,
)
from tests.evaluator.report.made_up import record

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=[]), max_size=60)


def generation(sample=0, text="x", seconds=1.0):
    return GenerationRecord("arm", "P1", sample, text, 3, "stop", seconds)


def verdict(**changes):
    tests = (TestRecord("1", "AC", 1.0, 12, 3000, 0, None, ""),)
    fields = {"subtasks": {"1": 20.0}, "compile_message": "warning", "tests": tests, **changes}
    return replace(record("arm", "P1", 0, "WA"), **fields)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_TEXT, max_size=6))
def test_any_text_comes_back_as_it_was(tmp_path, texts):
    path = tmp_path / "g.jsonl"
    path.unlink(missing_ok=True)
    records = [generation(i, text) for i, text in enumerate(texts)]
    append(path, records)
    found = read(path, GenerationRecord.from_row).values()
    assert list(map(asdict, found)) == list(map(asdict, records))
    assert path.read_bytes().count(b"\n") == len(records)


def test_a_file_torn_at_any_byte_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "g.jsonl"
    append(path, [generation(i, "长\u2028\n") for i in range(3)])
    content = path.read_bytes()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        whole = content[:size].count(b"\n")
        assert len(read(path, GenerationRecord.from_row)) == whole
        append(path, [generation(9)])
        assert len(read(path, GenerationRecord.from_row)) == whole + 1


def test_damage_inside_the_file_is_an_error_with_its_line(tmp_path):
    path = tmp_path / "g.jsonl"
    append(path, [generation(0), generation(1)])
    lines = path.read_bytes().split(b"\n")
    for bad in (b"{", b"[]", b"{}", json.dumps({**json.loads(lines[0]), "more": 1}).encode()):
        path.write_bytes(b"\n".join([lines[0], bad, b""]))
        with pytest.raises(RecordsError, match=r"g\.jsonl, line 2: not a record"):
            read(path, GenerationRecord.from_row)


def test_two_records_of_one_key_must_agree_in_all_but_time(tmp_path):
    path = tmp_path / "g.jsonl"
    append(path, [generation(0, "a", 1.0), generation(0, "a", 2.0)])
    assert len(read(path, GenerationRecord.from_row)) == 1
    append(path, [generation(0, "b")])
    with pytest.raises(RecordsError, match="line 3: a second, different record"):
        read(path, GenerationRecord.from_row)


def test_compared_is_all_but_times_sizes_and_messages(tmp_path):
    slow = TestRecord("1", "AC", 1.0, 99, 9000, 0, None, "slow")
    assert verdict() == verdict(tests=(slow,), compile_message="other")
    assert verdict() != verdict(tests=(TestRecord("1", "WA", 1.0),))
    assert verdict() != verdict(verdict="RE")
    append(tmp_path / "v.jsonl", [verdict()])
    found = read(tmp_path / "v.jsonl", VerdictRecord.from_row)
    assert asdict(found["arm", "P1", 0]) == asdict(verdict())  # times and messages too


def test_a_rewritten_file_is_the_records_in_order(tmp_path):
    path = tmp_path / "g.jsonl"
    append(path, [generation(1), generation(0)])
    rewrite_sorted(path, [generation(0), generation(1)])
    assert [key[2] for key in read(path, GenerationRecord.from_row)] == [0, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["g.jsonl"]


def test_one_start_at_a_time(tmp_path):
    refused = pytest.raises(RunDirectoryError, match="another process")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
