"""Luogu test data: names, config, special judge, and archives that attack."""

import struct
import zipfile

import pytest

from evaluator.data_files import DataLimits
from evaluator.errors import ArchiveError
from evaluator.luogu_data import load_luogu_data
from evaluator.problem import TestCase, to_bytes

CONFIG = """
a1.in: {timeLimit: 500, memoryLimit: 65536, score: 30, subtaskId: 1, isPretest: true}
a2.out: {timeLimit: 2000, score: 30, subtaskId: 1}
a10.in: {score: 40, subtaskId: 2}
"""
FILES = {"a1.in": b"1\n", "a1.out": b" 2\r\n", "a2.in": b"2\n", "a2.out": b"3\n"}
FILES |= {"a10.in": b"10\n", "a10.ans": b"\xff\x00\n"}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_folder(path, files):
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


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


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../a1.in", "escape"),
        ("/etc/a1.in", "escape"),
        ("..\\a1.in", "escape"),
        ("c:a1.in", "escape"),
        ("x/../../a1.in", "escape"),
        ("data/a1.in", "flat"),
    ],
)
def test_paths_that_leave_the_archive(tmp_path, name, words):
    before = sorted(tmp_path.parent.rglob("*"))
    path = make_zip(tmp_path / "d.zip", FILES | {name: b"x"})
    with pytest.raises(ArchiveError, match=words):
        load_luogu_data(path)
    assert sorted(tmp_path.parent.rglob("*")) == sorted([*before, path])


def test_links(tmp_path):
    info = zipfile.ZipInfo("a3.in")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
        archive.writestr("a3.out", "x")
    with pytest.raises(ArchiveError, match="symbolic link"):
        load_luogu_data(tmp_path / "d.zip")
    folder = make_folder(tmp_path / "f", FILES)
    (folder / "a3.in").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="symbolic link"):
        load_luogu_data(folder)


def test_nested_folders(tmp_path):
    folder = make_folder(tmp_path / "f", FILES)
    (folder / "more").mkdir()
    with pytest.raises(ArchiveError, match="flat"):
        load_luogu_data(folder)


@pytest.mark.parametrize("make", [make_zip, make_folder])
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (DataLimits(entries=5), "more than 5 files"),
        (DataLimits(file_bytes=3), "allowed are 3"),
        (DataLimits(total_bytes=12), "more than 12 bytes"),
    ],
)
def test_bounds(tmp_path, make, limits, words):
    with pytest.raises(ArchiveError, match=words):
        load_luogu_data(make(tmp_path / "d", FILES), limits)


def test_decompression_bomb_is_refused_before_it_is_read(tmp_path):
    path = make_zip(tmp_path / "d.zip", FILES | {"bomb.in": bytes(300 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ArchiveError, match="bomb.in"):
        load_luogu_data(path)


def test_bomb_whose_header_lies(tmp_path):
    """An entry that declares 10 bytes and holds a megabyte is not read beyond them."""
    path = make_zip(tmp_path / "d.zip", {"a1.in": bytes(1 << 20), "a1.out": b""})
    data = bytearray(path.read_bytes())
    size = struct.pack("<I", 1 << 20)
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, struct.pack("<I", 10)))
    with pytest.raises(ArchiveError, match="not a readable zip|more than it declares"):
        load_luogu_data(path)


def test_encrypted_doubled_and_torn_archives(tmp_path):
    path = make_zip(tmp_path / "d.zip", FILES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match="not a readable zip"):
        load_luogu_data(path)
    corrupt = bytearray(whole)
    corrupt[36:40] = b"\xff\xff\xff\xff"
    path.write_bytes(corrupt)
    with pytest.raises(ArchiveError):
        load_luogu_data(path)
    flagged = whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    assert flagged != whole
    path.write_bytes(flagged)
    with pytest.raises(ArchiveError, match="encrypted"):
        load_luogu_data(path)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for text in ("1", "2"):
            archive.writestr("a1.in", text)
    with pytest.raises(ArchiveError, match="twice"):
        load_luogu_data(path)
