"""Limits as others write them, in numbers or words, and whether they can be meant.

A number whose field says no unit is read in the one that makes it a usual limit (the ranges do not
overlap); what no contest has, such as 256 bytes or 1000 seconds, is no limit but a mistake about
units.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from evaluator.errors import shown

PLAUSIBLE_MS = (50, 600_000)
PLAUSIBLE_KIB = (4 << 10, 8 << 20)

_NUMBER_AND_UNIT = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*([a-z]*)", re.IGNORECASE)
_ABSENT = ("", "0", "none", "null", "~")
_MILLISECONDS = {"ms": 1, "millisecond": 1, "s": 1000, "sec": 1000, "second": 1000}
_BYTES = {"b": 1, "byte": 1}
_BYTES |= dict.fromkeys(("k", "kb", "kib", "kilobyte", "kibibyte"), 1 << 10)
_BYTES |= dict.fromkeys(("m", "mb", "mib", "megabyte", "mebibyte"), 1 << 20)
_BYTES |= dict.fromkeys(("g", "gb", "gib", "gigabyte", "gibibyte"), 1 << 30)
# unit -> (smallest, largest) number that is read in it where none is given
_USUAL_TIMES = {"s": (0.05, 60), "ms": (100, 60_000)}
_USUAL_SIZES = {"MiB": (16, 4096), "KiB": (16 << 10, 4 << 20), "B": (16 << 20, 4 << 30)}


class Limit(NamedTuple):
    """A limit in ms or KiB, and the unit that was assumed for it, if one was."""

    value: int
    assumed: str = ""


def milliseconds(value: Any, unit: str = "") -> Limit | None:
    """Read a time limit: ``"2.0 seconds"``, a number, ``{"seconds": 2, "nanos": 0}``.

    Args:
        value: As it was found.
        unit: Of a number without one, where the source's form says it.

    Returns:
        Milliseconds, or None where there is no limit (null, empty or 0).

    Raises:
        ValueError: If it is none of these, or no time that a contest has.

    Example:
        >>> milliseconds("2.5 seconds"), milliseconds(1500)
        (Limit(value=2500, assumed=''), Limit(value=1500, assumed='ms'))
    """
    if isinstance(value, dict):
        parts = [value.get(key) or 0 for key in ("seconds", "nanos")]
        if not all(type(part) is int and 0 <= part < 10**12 for part in parts):
            raise ValueError(f"time limit {shown(value)}: expected seconds and nanos")
        value, unit = f"{parts[0] + parts[1] / 1e9:.9f}", "s"
    limit = _read("time limit", value, unit, _MILLISECONDS, _USUAL_TIMES, 1)
    return _plausible("time limit", limit, PLAUSIBLE_MS, "ms")


def kibibytes(value: Any, unit: str = "") -> Limit | None:
    """Read a memory limit: ``"256 megabytes"`` (of 1024 KiB each), or a number.

    Args:
        value: As it was found.
        unit: Of a number without one, where the source's form says it.

    Returns:
        KiB, or None where there is no limit (null, empty or 0).

    Raises:
        ValueError: If it is none of these, or no size that a contest has.

    Example:
        >>> kibibytes("256.0 megabytes"), kibibytes(65536)
        (Limit(value=262144, assumed=''), Limit(value=65536, assumed='KiB'))
    """
    limit = _read("memory limit", value, unit, _BYTES, _USUAL_SIZES, 1024)
    return _plausible("memory limit", limit, PLAUSIBLE_KIB, "KiB")


def _read(
    what: str,
    value: Any,
    unit: str,
    units: dict[str, int],
    usual: Mapping[str, tuple[float, float]],
    divisor: int,
) -> Limit | None:
    """Give a number with a unit as a whole number of ``divisor`` units, rounded up."""
    text = "" if value is None else shown(value) if isinstance(value, bool) else str(value).strip()
    if text.lower() in _ABSENT:
        return None
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None:
        raise ValueError(f"{what} {shown(value)}: expected a number, with or without a unit")
    number, named = float(match[1]), match[2].lower() or unit.lower()
    assumed = ""
    if not named:
        fitting = (name for name, (low, high) in usual.items() if low <= number <= high)
        assumed = next(fitting, "")
        if number and not assumed:
            raise ValueError(f"{what} {shown(value)}: no unit, and in none is it a usual limit")
        named = assumed.lower() or next(iter(units))
    named = named if named in units else named.removesuffix("s")
    if named not in units:
        raise ValueError(f"{what} {shown(value)}: the unit is unknown")
    scaled = math.ceil(number * units[named] / divisor)
    return Limit(scaled, assumed) if scaled else None


def _plausible(what: str, limit: Limit | None, usual: tuple[int, int], unit: str) -> Limit | None:
    if limit is not None and not usual[0] <= limit.value <= usual[1]:
        raise ValueError(
            f"{what} of {limit.value} {unit}: none that a contest has "
            f"({usual[0]} to {usual[1]} {unit}); was another unit meant?"
        )
    return limit
