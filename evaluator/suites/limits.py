"""Limits as others write them, in numbers or words, and whether they can be meant.

A number without a unit is read in the one that makes it a usual limit (the ranges do not overlap);
what no contest has, such as 256 bytes or 1000 seconds, is a mistake about units.
"""

import math
import re
from typing import Any, NamedTuple

from evaluator.errors import shown

_NUMBER_AND_UNIT = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*([a-z]*)", re.IGNORECASE)
_ABSENT = ("", "0", "none", "null", "~")
_MILLISECONDS = {"ms": 1, "millisecond": 1, "s": 1000, "sec": 1000, "second": 1000}
_BYTES = {"b": 1, "byte": 1}
_BYTES |= dict.fromkeys(("k", "kb", "kib", "kilobyte", "kibibyte"), 1 << 10)
_BYTES |= dict.fromkeys(("m", "mb", "mib", "megabyte", "mebibyte"), 1 << 20)
_BYTES |= dict.fromkeys(("g", "gb", "gib", "gigabyte", "gibibyte"), 1 << 30)
# unit -> (smallest, largest) number that is read in it where none is given
_USUAL_TIMES = {"s": (0.05, 60.0), "ms": (100.0, 60e3)}
_USUAL_SIZES = {"MiB": (16.0, 4096.0), "KiB": (2.0**14, 2.0**22), "B": (2.0**24, 2.0**32)}


class Limit(NamedTuple):
    """A limit in ms or KiB, and the unit that was assumed for it, if one was."""

    value: int
    assumed: str = ""


class _Kind(NamedTuple):
    name: str
    units: dict[str, int]
    usual: dict[str, tuple[float, float]]
    unit: str
    divisor: int
    least: int
    most: int


_TIME = _Kind("time limit", _MILLISECONDS, _USUAL_TIMES, "ms", 1, 50, 600_000)
_MEMORY = _Kind("memory limit", _BYTES, _USUAL_SIZES, "KiB", 1024, 4 << 10, 8 << 20)


def milliseconds(value: Any, unit: str = "") -> Limit | None:
    """Read a time limit in ms: ``"2.0 seconds"``, a number, ``{"seconds": 2, "nanos": 0}``.

    ``unit`` is that of a number without one, where the source's form says it. None where there is
    no limit (null, empty or 0); ValueError if it is none of these, or no time that a contest has.
    """
    if isinstance(value, dict):
        parts = [value.get(key) or 0 for key in ("seconds", "nanos")]
        if not all(type(part) is int and 0 <= part < 10**12 for part in parts):
            raise ValueError(f"time limit {shown(value)}: expected seconds and nanos")
        value, unit = f"{parts[0] + parts[1] / 1e9:.9f}", "s"
    return _read(_TIME, value, unit)


def kibibytes(value: Any, unit: str = "") -> Limit | None:
    """Read a memory limit in KiB, as :func:`milliseconds` does; a megabyte has 1024 of them."""
    return _read(_MEMORY, value, unit)


def _read(kind: _Kind, value: Any, unit: str) -> Limit | None:
    """Read a number with or without a unit, rounded up."""
    text = "" if value is None else shown(value) if isinstance(value, bool) else str(value).strip()
    if text.lower() in _ABSENT:
        return None
    what = f"{kind.name} {shown(value)}"
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None:
        raise ValueError(f"{what}: expected a number, with or without a unit")
    number, named = float(match[1]), match[2].lower() or unit.lower()
    assumed = ""
    if not named:
        fitting = (name for name, (low, high) in kind.usual.items() if low <= number <= high)
        assumed = next(fitting, "")
        if number and not assumed:
            raise ValueError(f"{what}: no unit, and in none is it a usual limit")
        named = assumed.lower() or kind.unit.lower()
    named = named if named in kind.units else named.removesuffix("s")
    if named not in kind.units:
        raise ValueError(f"{what}: the unit is unknown")
    scaled = math.ceil(number * kind.units[named] / kind.divisor)
    if scaled and not kind.least <= scaled <= kind.most:
        possible = f"{kind.least} to {kind.most} {kind.unit}; was another unit meant?"
        raise ValueError(
            f"{kind.name} of {scaled} {kind.unit}: none that a contest has ({possible})"
        )
    return Limit(scaled, assumed) if scaled else None
