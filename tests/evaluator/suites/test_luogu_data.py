"""Luogu test data: names, config, special judge."""

import pytest

from evaluator.errors import ArchiveError
from evaluator.suites.luogu_data import load_luogu_data
from evaluator.suites.problem import Checker, TestCase, to_bytes
from tests.evaluator.suites.archives import FILES, make_folder, make_zip

CONFIG = """
a1.in: {timeLimit: 500, memoryLimit: 65536, score: 30, subtaskId: 1, isPretest: true}
a1.out: {timeLimit: ~, score: ''}
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


SAME = b"int main() { return 0; }"


@pytest.fixture
def load(tmp_path):
    """Read the usual files and some more, from a zip; each call makes one of its own."""
    names = iter(f"d{number}.zip" for number in range(9))
    return lambda more: load_luogu_data(make_zip(tmp_path / next(names), FILES | more))


@pytest.mark.parametrize(
    "name",
    ["spj.cpp", "chk.cpp", "checker.cc", "CHECKER.CPP", "check.cpp", "SPJ.cc", "Special_Judge.cpp"]
    + ["spj.c", "P1001_chk.cpp", "checker1.cxx"],
)
@pytest.mark.parametrize("make", [make_zip, make_folder])
def test_a_special_judge_under_any_usual_name(tmp_path, make, name):
    data = load_luogu_data(make(tmp_path / "d", FILES | {name: SAME}))
    assert data.checker == Checker("special", source=SAME.decode()) and data.unused == ()


def test_what_uses_testlib_as_a_checker_is_one(load):
    source = b'#include "testlib.h"\nint main(int c, char**v) { registerTestlibCmd(c, v); }'
    others = {"gen.cpp": b"registerGen(", "val.cpp": b"registerValidation(", "testlib.h": b""}
    data = load({"P1.cpp": source} | others)
    assert data.checker.source == source.decode()
    assert data.unused == ("gen.cpp", "testlib.h", "val.cpp")


def test_of_two_special_judges_one_must_be_plain(load):
    both = {"checker.cpp": SAME, "spj.cpp": b"int main() { return 1; }"}
    data = load(both)
    assert data.checker.source == SAME.decode() and data.unused == ("spj.cpp",)
    both["chk.cpp"] = both.pop("checker.cpp")
    with pytest.raises(ArchiveError, match=r"which is the special judge, chk.cpp or spj.cpp\?"):
        load(both)
    assert load(dict.fromkeys(both, SAME)).checker.source == SAME.decode()


@pytest.mark.parametrize("name", ["checker.py", "spj.exe", "chk", "spj.pas", "Checker.java"])
def test_a_special_judge_in_another_language_is_seen(load, name):
    data = load({name: b"x"})
    assert (data.checker, data.foreign_checker) == (None, name)
    data = load({name: b"x", "spj.cpp": SAME})
    assert data.foreign_checker is None and data.unused == (name,)


@pytest.mark.parametrize("name", ["interactive_lib.cpp", "Interactor.cc", "grader.cpp", "grader.h"])
def test_programs_that_talk_to_the_solution_are_seen(load, name):
    assert load({name: b""}).interactor == name


@pytest.mark.parametrize("make", [make_zip, make_folder])
def test_names_in_capitals_are_read_and_files_without_a_meaning_are_named(tmp_path, make):
    files = {"1.IN": b"1", "1.OUT": b"2", "2.In": b"3", "2.ANS": b"4"}
    data = load_luogu_data(make(tmp_path / "c", files | {"CONFIG.YML": b"1.in: {score: 7}"}))
    assert data.tests == (TestCase("1", "1", "2", 7), TestCase("2", "3", "4"))
    more = dict.fromkeys(("._a1.in", "._a1.out", ".DS_Store", "config.ini", "problem.conf"), b"x")
    more |= dict.fromkeys(("std.cpp", "Config.yml", "Thumbs.db"), b"{}")
    data = load_luogu_data(make(tmp_path / "d", FILES | more | {"config.yml": b"# none"}))
    assert [test.name for test in data.tests] == ["a1", "a2", "a10"]
    assert set(data.unused) == more.keys()


def test_a_zip_as_macos_packs_a_folder(tmp_path):
    files = {f"P1/{name}": data for name, data in FILES.items()}
    files |= {"__MACOSX/P1/._a1.in": b"x", "__MACOSX/._P1": b"x", "P1/.DS_Store": b"x"}
    data = load_luogu_data(make_zip(tmp_path / "d.zip", files))
    assert [test.name for test in data.tests] == ["a1", "a2", "a10"]
    assert data.unused == (".DS_Store", "__MACOSX/._P1", "__MACOSX/P1/._a1.in")


def test_numbers_in_names_may_be_long(tmp_path):
    stems = ("9" * 100, "1" + "0" * 100, "010", "2", "²", "a٣")
    files = {f"{stem}.{suffix}": b"" for stem in stems for suffix in ("in", "out")}
    tests = load_luogu_data(make_zip(tmp_path / "d.zip", files)).tests
    assert [test.name for test in tests][:3] == ["2", "010", "9" * 100]


@pytest.mark.parametrize(
    "value",
    [".inf", "-.inf", ".nan", "2021-13-45", "2021-01-02", "!!int x", "!!float y", "!!binary ?"]
    + ["!!timestamp z", "!!set {a}", "!!python/name:os.system", "9" * 5000, "0x" + "f" * 5000]
    + ["10000000000000000000000", "-1", "0", "1e400", "true", "[1]", "{a: b}", '"\\uD800"', "256"]
    + ["190:20:30"],
)
def test_a_limit_that_is_none_is_an_error_that_names_it(load, value):
    """256 is one too: it was meant in another unit than KiB."""
    text = f"a1.in: {{memoryLimit: {value}}}"
    place = r"d0.zip: config.yml(, 'a1'|, line 1, column \d+: not valid YAML)"
    with pytest.raises(ArchiveError, match=place) as error:
        load({"config.yml": text.encode()})
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"b1.in": b""}, "without an input or without an answer.*b1"),
        ({"a1.ans": b""}, "two answers"),
        ({"config.yml": b"a9.in: {score: 1}"}, "a9.in"),
        ({"config.yml": b"a1.in: {scoer: 1}"}, "scoer"),
        ({"config.yml": b"a1.in: {score: many}"}, "score: expected .*found 'many'"),
        ({"config.yml": b"a1.in: {subtaskId: 1.5}"}, "subtaskId: expected a valid integer"),
        ({"config.yml": b"- a"}, "expected a mapping"),
        ({"config.yml": b"a: &x [1, *x]\n"}, "an alias inside what it stands for"),
        ({"config.yml": b"a1.in: !!python/object/apply:os.getcwd []"}, "expected a mapping"),
        ({"config.yml": b"a1.in: {score: 1}\n" * 20_000}, "larger than 256 KiB"),
        ({"config.yml": b"a1.in: {isPretest: 5}"}, "isPretest: .*found '5'"),
        ({"config.yml": b"? [a]: {score: 1}"}, "config.yml"),
        ({"config.yml": b"9" * 5000 + b": {score: 1}"}, "config.yml"),
        ({"A1.IN": b"", "a1.IN": b""}, "'a1' has two inputs, a1.IN and a1.in"),
    ],
)
def test_broken_data(load, change, words):
    with pytest.raises(ArchiveError, match=f"(?s){words}"):
        load(change)


def test_no_tests(tmp_path):
    make_zip(tmp_path / "d.zip", {"readme.txt": b""})
    for name, words in (("d.zip", "no tests"), ("nowhere.zip", "no such")):
        with pytest.raises(ArchiveError, match=words):
            load_luogu_data(tmp_path / name)
