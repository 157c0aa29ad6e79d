"""Zips and folders that attack: each is refused, with little memory and nothing written."""

import bz2
import os
import struct
import tracemalloc
import zipfile

import pytest

from evaluator.errors import ArchiveError
from evaluator.suites import data_files
from evaluator.suites.data_files import read_data_files
from tests.evaluator.suites.archives import FILES, make_folder, make_zip


def refusal(path, memory=1 << 24):
    """What is said of an archive that is refused, with the memory for it measured."""
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError) as error:
            read_data_files(path)
        assert tracemalloc.get_traced_memory()[1] < memory
        return str(error.value)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../a1.in", "escape"),
        ("/etc/a1.in", "escape"),
        ("..\\a1.in", "escape"),
        ("c:a1.in", "escape"),
        ("x/../../a1.in", "escape"),
        ("data/a1.in", "flat"),
        ("../../a/", "escape"),
        ("a1\0/x", r"entry 'a1\x00/x' would escape"),
    ],
)
def test_paths_that_leave_the_archive(tmp_path, name, words):
    before = sorted(tmp_path.parent.rglob("*"))
    path = make_zip(tmp_path / "d.zip", FILES | {name.replace("\0", "#"): b"x"})
    path.write_bytes(path.read_bytes().replace(b"a1#/", b"a1\0/"))
    assert words in refusal(path)
    assert sorted(tmp_path.parent.rglob("*")) == sorted([*before, path])


def test_links_and_pipes(tmp_path):
    info = zipfile.ZipInfo("a3.in")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
        archive.writestr("a3.out", "x")
    assert "symbolic link" in refusal(tmp_path / "d.zip")
    folder = make_folder(tmp_path / "f", FILES)
    (folder / "a3.in").symlink_to("/etc/passwd")
    assert "symbolic link" in refusal(folder)
    (folder / "a3.in").unlink()
    os.mkfifo(folder / "a3.in")
    assert "'a3.in' is a special file" in refusal(folder)


@pytest.mark.parametrize("name", ["b.zip", "b.tar.gz", "B.RAR", "b.in.7z"])
@pytest.mark.parametrize("make", [make_zip, make_folder])
def test_archives_inside(tmp_path, make, name):
    refused = refusal(make(tmp_path / "d", FILES | {name: b"PK"}))
    assert f"'{name}' is an archive inside" in refused


@pytest.mark.parametrize("make", [make_zip, make_folder])
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (("MAX_FILES", 5), "more than 5 files"),
        (("MAX_FILE_BYTES", 3), "allowed are 3"),
        (("MAX_TOTAL_BYTES", 12), "more than 12 bytes"),
    ],
)
def test_bounds(tmp_path, monkeypatch, make, limit, words):
    monkeypatch.setattr(data_files, *limit)
    assert words in refusal(make(tmp_path / "d", FILES))


def test_a_decompression_bomb_is_refused_before_it_is_read(tmp_path):
    path = make_zip(tmp_path / "d.zip", FILES | {"bomb.in": bytes(70 << 20)})
    assert path.stat().st_size < 1 << 17
    assert f"unpack to {(70 << 20) + 16}, more than 200 times" in refusal(path, 1 << 20)


def table_of_contents(names, size=0):
    """Entries of a zip's table of contents, all pointing at its first byte."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, 0, size, 9, *[0] * 4, 0, 0)
    return b"".join(entry + name for name in names)


def end_record(table, offset=0):
    return struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(table), offset, 0)


@pytest.mark.parametrize("zip64", [False, True])
def test_a_hundred_thousand_entries_are_not_even_listed(tmp_path, zip64):
    table = table_of_contents(b"%06d.in" % number for number in range(100_000))
    middle = b""
    if zip64:
        sizes = (100_000, 100_000, len(table), 0)
        middle = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, *sizes)
        middle += struct.pack("<4sIQI", b"PK\6\7", 0, len(table), 1)
    path = tmp_path / "d.zip"
    path.write_bytes(table + middle + end_record(table))
    assert zipfile.is_zipfile(path)
    assert ("zip64" if zip64 else "contents has 5500000") in refusal(path, 1 << 20)


def test_entries_that_share_their_bytes(tmp_path):
    """Each declares a harmless ratio; together they unpack the same bytes again and again."""
    table = table_of_contents((b"%06d.in" % number for number in range(1000)), size=1 << 20)
    path = tmp_path / "d.zip"
    path.write_bytes(bytes(1 << 20) + table + end_record(table, offset=1 << 20))
    with pytest.raises(ArchiveError, match="more than 200 times|not a readable zip"):
        read_data_files(path)


def test_methods_that_unpack_without_a_bound(tmp_path):
    path = make_zip(tmp_path / "d.zip", FILES, zipfile.ZIP_BZIP2)
    assert bz2.compress(b"1\n")[:3] in path.read_bytes()
    assert "compression method 12" in refusal(path)


def test_bomb_whose_header_lies(tmp_path):
    """An entry that declares 10 bytes and holds 16 megabytes is not unpacked far beyond them."""
    path = make_zip(tmp_path / "d.zip", {"a1.in": bytes(1 << 24), "a1.out": b""})
    data = path.read_bytes()
    size = struct.pack("<I", 1 << 24)
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, struct.pack("<I", 10)))
    assert "not a readable zip" in refusal(path, 4 << 20)


def test_encrypted_doubled_and_torn_archives(tmp_path):
    path = make_zip(tmp_path / "d.zip", FILES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "not a readable zip" in refusal(path)
    corrupt = bytearray(whole)
    corrupt[36:40] = b"\xff\xff\xff\xff"
    path.write_bytes(corrupt)
    assert refusal(path)
    flagged = whole.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    assert flagged != whole
    path.write_bytes(flagged)
    assert "encrypted" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for text in ("1", "2"):
            archive.writestr("a1.in", text)
    assert "twice" in refusal(path)
