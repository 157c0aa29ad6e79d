"""Luogu test data as problems: one archive, or a folder of them, with and without statements."""

import pytest

from evaluator.errors import ArchiveError
from evaluator.suites import data_files
from evaluator.suites.importers.draft import Note
from evaluator.suites.importers.forms import read_source
from evaluator.suites.importers.luogu_archives import read_statements
from tests.evaluator.suites.archives import make_folder, make_zip

FILES = {"a1.in": "1\n", "a1.out": " 2\r\n", "a2.in": "2\n", "a2.ans": "3\n"}
CONFIG = "a1.in: {score: 40, subtaskId: 1, timeLimit: 500}\n"
CONFIG += "a2.ans: {subtaskId: 2, memoryLimit: 65536}"


@pytest.fixture
def folder(tmp_path):
    """Three problems: a zip with its statement beside, a folder with one inside, one without."""
    data = tmp_path / "data"
    make_folder(data / "P2", FILES | {"checker.cpp": "int main(){}", "statement.md": "# P2 乙\n"})
    make_zip(data / "P1.zip", FILES | {"config.yml": CONFIG})
    (data / "P1.md").write_text("Solve:\n# P1 甲\n")
    make_zip(data / "P3.ZIP", FILES)
    return data


def test_a_folder_of_archives(folder, read):
    problems, skipped = read(folder)
    assert list(problems) == ["P1", "P2", "P3"] and not skipped
    one, two, three = problems.values()
    assert (one.title, one.prompt, one.source) == ("甲", "Solve:\n# P1 甲\n", "data, P1.zip")
    found = [(t.name, t.output, t.score, t.subtask) for t in one.tests]
    assert found == [("a1", " 2\r\n", 40, 1), ("a2", "3\n", 1, 2)]
    assert [one.limits(test) for test in one.tests] == [(500, 131_072), (1000, 65_536)]
    assert two.checker.source == "int main(){}" and two.title == "乙"
    assert three.statement == "" and three.tests == two.tests  # which makes it no double


def test_given_statements_come_first(folder, read, write_rows, tmp_path):
    rows = write_rows({"prompt": "# P1 rows\n"}, {"prompt": "# P1 again\n"}, {"prompt": "none"})
    given = read_statements(rows)
    assert given == {"P1": "# P1 rows\n"}
    problems, _ = read(folder, statements=given)
    assert [problem.title for problem in problems.values()] == ["rows", "乙", ""]
    beside = make_folder(tmp_path / "texts", {"P3.md": "# P3 丙", "P2.txt": "# P2 丁", "x.cpp": ""})
    assert read_statements(beside) == {"P3": "# P3 丙", "P2": "# P2 丁"}


def test_what_is_refused_is_listed_and_the_rest_kept(folder, read):
    make_zip(folder / "escape.zip", FILES | {"../x.in": ""})
    make_zip(folder / "half.zip", {"a.in": ""})
    make_folder(folder / "zero", FILES | {"config.yml": "a1.in: {timeLimit: 0}"})
    make_zip(folder / "asks.zip", FILES | {"interactive_lib.cpp": ""})
    make_zip(folder / "snake.zip", FILES | {"checker.py": "print()"})
    (folder / "torn.zip").write_bytes(b"PK\x03\x04")
    (folder / "readme.pdf").write_bytes(b"")
    (folder / "alone.md").write_text("# P7 x")
    (folder / "link.zip").symlink_to(folder / "P1.zip")
    problems, skipped = read(folder)
    assert list(problems) == ["P1", "P2", "P3"]
    reasons = {s.where: (s.kind, s.reason) for s in skipped}
    words = dict.fromkeys(("readme.pdf", "alone.md"), "neither a zip or folder")
    words |= {"escape.zip": "would escape", "zero": "a limit of no", "link.zip": "symbolic link"}
    words |= {"torn.zip": "not a readable zip", "half.zip": "without an input or without an answer"}
    assert reasons.keys() == words.keys() | {"asks.zip", "snake.zip"}
    assert reasons["asks.zip"][0] == "interactive"
    assert reasons["snake.zip"] == ("special-judge", "brings checker.py, which is no C++ source")
    assert all(reasons[k][0] == "unreadable" and w in reasons[k][1] for k, w in words.items())


def test_statements_are_readable_text_or_of_one_problem_alone(tmp_path, read):
    texts = {"P1": "# P1 甲".encode(), "P2": "# P2 乙".encode("gbk"), "P3": b"\xff\xfe\xfd"}
    texts |= {"P4": "# P4 é丁\n".encode("utf-16"), "P5": "études à été".encode("latin-1")}
    for name, text in texts.items():
        make_folder(tmp_path / "inside" / name, FILES)
        (tmp_path / "inside" / name / "statement.md").write_bytes(text)
        make_folder(tmp_path / "beside" / name, FILES)
        (tmp_path / "beside" / f"{name}.md").write_bytes(text)
        make_folder(tmp_path / "bare" / name, FILES)
    for folder, statements in (("inside", None), ("beside", None), ("bare", tmp_path / "beside")):
        given = statements and read_statements(statements)
        problems, skipped = read(tmp_path / folder, statements=given)
        assert list(problems) == ["P1", "P2", "P4"]
        assert [problem.title for problem in problems.values()] == ["甲", "乙", "é丁"]
        assert [(s.id, s.kind) for s in skipped] == [("P3", "unreadable"), ("P5", "unreadable")]
        assert all("neither UTF-8 nor GBK" in s.reason for s in skipped)


def test_statement_rows_that_cannot_be_read_are_left_out(write, caplog):
    text = '{"prompt": "# P1 x"}\n{"prompt": \n{"a": 1}\n{"prompt": "# P2 x"}'
    assert list(read_statements(write("rows.jsonl", text))) == ["P1", "P2"]
    assert "rows.jsonl, line 2: not JSON" in caplog.text
    assert "rows.jsonl, line 3: expected a string" in caplog.text


def test_files_without_a_meaning_are_noted(folder, read):
    make_zip(folder / "P1.zip", FILES | {"._a1.in": "x", "config.ini": "", "__MACOSX/._x": ""})
    (folder / ".DS_Store").write_text("x")
    (folder / "._P1.zip").write_text("x")
    (folder / "__MACOSX").mkdir()
    items = list(read_source(folder))
    assert [item.id for item in items if not isinstance(item, Note)] == ["P1", "P2", "P3"]
    inside = {("P1.zip", "P1", name) for name in ("._a1.in", "config.ini", "__MACOSX/._x")}
    beside = {(name, "", name) for name in (".DS_Store", "._P1.zip", "__MACOSX")}
    notes = [item for item in items if isinstance(item, Note)]
    assert {(note.where, note.id, note.detail) for note in notes} == inside | beside
    assert {note.kind for note in notes} == {"unused"}


def test_statements_of_data(tmp_path, read):
    """Real data judges an answer-only problem; several right outputs still need a checker."""
    texts = [("本题为提交答案题", {}), ("输出任意一组解", {}), ("输出任意一组解", {"spj.cpp": "x"})]
    texts += [("这是交互题", {}), ("误差不超过 1e-6 视为正确。", {})]
    for number, (text, more) in enumerate(texts):
        make_folder(tmp_path / "d" / f"P{number}", FILES | {"statement.md": text} | more)
    problems, skipped = read(tmp_path / "d")
    kinds = {name: problem.checker.kind for name, problem in problems.items()}
    assert kinds == {"P0": "lines", "P2": "special", "P4": "float"}
    assert [(s.id, s.kind) for s in skipped] == [("P1", "special-judge"), ("P3", "interactive")]


def test_folders_are_bounded_and_one_refused_archive_ends_the_import(tmp_path, read, monkeypatch):
    with pytest.raises(ArchiveError, match=r"d\.zip: entry '\.\./x\.in' would escape"):
        read(make_zip(tmp_path / "d.zip", {"../x.in": ""}))
    monkeypatch.setattr(data_files, "MAX_ENTRIES", 5)
    crowd = make_folder(tmp_path / "crowd", {f"{number}.txt": "" for number in range(6)})
    with pytest.raises(ArchiveError, match="more than 5 entries"):
        read(crowd)
