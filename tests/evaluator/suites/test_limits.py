"""Limits as others write them: units, what is assumed, what cannot be meant."""

import pytest

from evaluator.suites.limits import kibibytes, milliseconds

TIMES = [
    *[("2.0 seconds", 2000, ""), ("1 second", 1000, ""), ("1500 ms", 1500, ""), ("2s", 2000, "")],
    *[("1.5 Sec", 1500, ""), ({"seconds": 3, "nanos": 1}, 3001, "")],
    *[({"seconds": 0, "nanos": 500_000_000}, 500, ""), (2, 2000, "s"), (2.0, 2000, "s")],
    *[("0.5", 500, "s"), (60, 60_000, "s"), (100, 100, "ms"), ("2000", 2000, "ms")],
]
SIZES = [
    *[("256 megabytes", 262_144, ""), ("256.0 megabytes", 262_144, ""), ("64 MB", 65_536, "")],
    *[("256m", 262_144, ""), ("1 GiB", 1 << 20, ""), ("65536 kb", 65_536, "")],
    *[("67108864 bytes", 65_536, ""), (256, 262_144, "MiB"), (256.0, 262_144, "MiB")],
    *[("1024", 1 << 20, "MiB"), (65_536, 65_536, "KiB"), (262_144, 262_144, "KiB")],
    *[(256_000_000, 250_000, "B"), (1 << 28, 262_144, "B")],
]


@pytest.mark.parametrize(
    ("read", "value", "found", "assumed"),
    [(milliseconds, *row) for row in TIMES] + [(kibibytes, *row) for row in SIZES],
)
def test_a_limit_without_a_unit_is_one_that_is_usual(read, value, found, assumed):
    assert read(value) == (found, assumed)


def test_a_form_may_say_the_unit():
    assert milliseconds("1000", "ms") == (1000, "") and kibibytes(65_536, "kib") == (65_536, "")
    assert milliseconds("2s", "ms") == (2000, "")


@pytest.mark.parametrize("value", [None, "", 0, "None", {"seconds": 0, "nanos": 0}, {}])
def test_no_limit(value):
    assert milliseconds(value) is None
    assert isinstance(value, dict) or kibibytes(value) is None


@pytest.mark.parametrize(
    ("read", "value", "unit"),
    [(milliseconds, value, "") for value in (70, 1e9, 10**400, "1000 s", "1 ms", 0.01)]
    + [(milliseconds, 10**22, "ms"), (milliseconds, 1, "ms"), (milliseconds, {"seconds": 1000}, "")]
    + [
        (kibibytes, value, "")
        for value in (1, 8, 5000, 10**7, 10**12, "256 bytes", "1 KiB", "1 TB")
    ]
    + [(kibibytes, 256, "b"), (kibibytes, 256, "kib"), (kibibytes, 1 << 28, "kib")],
)
def test_limits_that_nobody_means_are_refused(read, value, unit):
    with pytest.raises(ValueError, match="limit"):
        read(value, unit)


@pytest.mark.parametrize(
    "value",
    ["-1 seconds", "1 2", "nan", ".inf", True, [], "2 weeks", {"seconds": "1"}, {"seconds": -1}]
    + [{"seconds": True}, {"nanos": 10**400}, "9" * 5000, "2021-13-45", "\ud800", float("nan")],
)
def test_what_is_no_limit(value):
    with pytest.raises(ValueError, match="limit"):
        milliseconds(value)
    if not isinstance(value, dict):
        with pytest.raises(ValueError, match="limit"):
            kibibytes(value)
