"""Luogu test data: names, config, special judge."""

import pytest

from evaluator.errors import ArchiveError
from evaluator.suites.luogu_data import load_luogu_data
from evaluator.suites.problem import TestCase, to_bytes
from tests.evaluator.archives import FILES, make_folder, make_zip

CONFIG = """
a1.in: {timeLimit: 500, memoryLimit: 65536, score: 30, subtaskId: 1, isPretest: true}
a2.out: {timeLimit: 2000, score: 30, subtaskId: 1}
a10.in: {score: 40, subtaskId: 2}
"""


@pytest.mark.parametrize("make", [make_zip, make_folder])
def test_tests_limits_subtasks_and_order(tmp_path, make):
    files = FILES | {"config.yml": CONFIG.encode(), "checker.cpp": b"int main() {}"}
    data = load_luogu_data(make(tmp_path / "data", files | {"std.cpp": b"ignored"}))
    assert data.tests == (
        TestCase("a1", "1\n", " 2\r\n", 30, 1, 500, 65536, True),
        TestCase("a2", "2\n", "3\n", 30, 1, 2000),
        TestCase("a10", "10\n", "\udcff\0\n", 40, 2),
    )
    assert to_bytes(data.tests[2].output) == b"\xff\x00\n"
    assert data.checker is not None and data.checker.source == "int main() {}"


def test_without_a_config(tmp_path):
    data = load_luogu_data(make_zip(tmp_path / "d.zip", FILES))
    assert [test.name for test in data.tests] == ["a1", "a2", "a10"]
    assert {test.score for test in data.tests} == {1.0} and data.checker is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"b1.in": b""}, "without an input or without an answer.*b1"),
        ({"b1.out": b""}, "without an input or without an answer.*b1"),
        ({"a1.ans": b""}, "two answers"),
        ({"config.yml": b"a9.in: {score: 1}"}, "a9.in"),
        ({"config.yml": b"a1.in: {scoer: 1}"}, "scoer"),
        ({"config.yml": b"a1.in: {score: many}"}, "score is 'many'"),
        ({"config.yml": b"a1.in: {subtaskId: 1.5}"}, "whole number"),
        ({"config.yml": b"- a"}, "expected a mapping"),
        ({"config.yml": b"a: [1"}, "not readable YAML"),
        ({"config.yml": b"a: &x [1]\nb: *x\n"}, "aliases"),
        ({"config.yml": b"a: !!python/object/apply:os.getcwd []"}, "not readable YAML"),
        ({"config.yml": b"[" * 100_000}, "nests deeper"),
    ],
)
def test_broken_data(tmp_path, change, words):
    with pytest.raises(ArchiveError, match=f"(?s){words}"):
        load_luogu_data(make_zip(tmp_path / "d.zip", FILES | change))


def test_no_tests(tmp_path):
    with pytest.raises(ArchiveError, match="no tests"):
        load_luogu_data(make_zip(tmp_path / "d.zip", {"readme.txt": b""}))
    with pytest.raises(ArchiveError, match="no such"):
        load_luogu_data(tmp_path / "nowhere.zip")
