import math

import pytest

from tinylora.errors import YamlError
from tinylora.files.yaml_text import MAX_BYTES, load_yaml

NAMES = ("ab", "bc", "cd", "de", "ef")
LAUGHS = "\n".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in NAMES)


def test_plain_data_is_read():
    text = "a: &x {k: [1, 2.5, yes, ~]}\nb: {<<: *x, z: .inf}\nc: !!set {q}\n"
    shared = [1, 2.5, True, None]
    expected = {"a": {"k": shared}, "b": {"k": shared, "z": math.inf}, "c": {"q"}}
    assert load_yaml(text.encode(), "f") == expected
    assert load_yaml("a: é".encode("utf-16"), "f") == load_yaml(b"\xef\xbb\xbfa: \xc3\xa9", "f")


def test_dates_are_text():
    assert load_yaml(b"[2020-01-31, 2020-99-99]", "f") == ["2020-01-31", "2020-99-99"]


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        (b"a: 1\nb: !!int x", ", line 2, column 4", "'x' is no int"),
        (b"a: !!timestamp x", ", line 1, column 4", "timestamp"),
        (b"\n\nseed: " + b"9" * 5000, ", line 3, column 7", "5000 characters"),
        (b"[" * 3000, ", line 1, column 65", "nested deeper than 64"),
        (f"a: &a [1, 2]\n{LAUGHS}".encode(), ", line 6", "more than 50000 values"),
        (b"&a [*a]", ", line 1, column 5", "inside what it stands for"),
        (b'a: "\\ud800"', ", line 1, column 4", "surrogates not allowed"),
        (b"a: !!python/object/apply:os.getcwd []", ", line 1, column 4", "constructor"),
        (b"{[]: 1}", ", line 1, column 2", "unhashable key"),
        (b"a: [", ", line 1, column 5", "expected the node content"),
        (b"a: \xff", "", "invalid start byte"),
        (b"#" * (MAX_BYTES + 1), "", "larger than 256 KiB"),
    ],
)
def test_a_malformed_file_is_an_error_with_its_place(content, place, problem):
    with pytest.raises(YamlError, match=problem) as caught:
        load_yaml(content, "run.yaml")
    assert str(caught.value).startswith(f"run.yaml{place}")
    assert len(str(caught.value)) < 300
