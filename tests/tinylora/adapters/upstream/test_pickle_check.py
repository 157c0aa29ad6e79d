"""Pickles of plain values and tensors pass; all others are refused without being run."""

import collections
import io
import pickle
import zipfile
from dataclasses import dataclass

import pytest
import torch

from tinylora.adapters.upstream.pickle_check import check_pickle


def pickle_of(value, **options):
    """What ``torch.save`` makes of a value."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return archive.read(name)


@pytest.mark.parametrize(
    "value",
    [
        {"v": torch.ones(3), "n": 1, "x": -2.5, "big": 2**70, "t": True, "none": None, "é": "字"},
        {"p": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))},
        collections.OrderedDict(a=torch.ones(1), b=collections.OrderedDict(c=[1, [2, (3, "x")]])),
        {"list": list(range(2000)), "same": [torch.ones(2)] * 3, 7: {"inner": ()}},
        {},
    ],
)
def test_plain_values_and_tensors_pass(value):
    assert check_pickle(pickle_of(value)) is None
    assert check_pickle(pickle.dumps({"a": [1, "b", (2, 3)]}, protocol=4)) is None


def expanding_key(depth):
    """A pickle whose one key is a pair of a pair of ... one tuple: its hash takes 2^depth steps."""
    pair = b"q\x00h\x00\x86"  # remember the tuple, repeat it, make a pair of the two
    return b"\x80\x02})" + pair * depth + b"K\x01s."


class WithAttributes(collections.OrderedDict):
    """A dict whose own ``get`` is no function any more."""

    def __reduce__(self):
        return collections.OrderedDict, (), {"get": 1}


@dataclass
class Code:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (expanding_key(60), "a key that is a tuple"),
        (b"\x80\x02}" + b")" + b"\x85" * 50_000 + b"K\x01s.", "a key that is a tuple"),  # deep
        (pickle.dumps(WithAttributes(), protocol=2), "BUILD"),
        (pickle.dumps(Code(), protocol=2), "print"),
        (pickle.dumps(Code(), protocol=4), "STACK_GLOBAL"),
        (pickle.dumps({1, 2}, protocol=2), "set"),
        (pickle.dumps(list(range(200_000)), protocol=2), "more than 100000 steps"),
        (b"\x80\x02K\x01)R.", "a call of something that is no function"),
        (b"\x80\x02X\x01\x00\x00\x00aK\x01K\x02s.", "items that are put into a text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "pickle",
)
def test_what_an_artifact_never_needs_is_refused(content, words):
    assert words in check_pickle(content)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\x80", b"\x80\x02t.", b"\x80\x02h\x07.", b"\x80\x02}(s."],
    ids=["empty", "cut", "no mark", "no memo", "a mark for a value"],
)
def test_damage_is_no_answer(damaged):
    with pytest.raises((ValueError, LookupError)):
        check_pickle(damaged)
