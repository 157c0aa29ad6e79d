"""Limits as data sets write them: numbers with a unit, in words."""

import math
import re
from typing import Any

_NUMBER_AND_UNIT = re.compile(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*([a-z]*)\s*", re.IGNORECASE)
_MILLISECONDS = {"ms": 1, "millisecond": 1, "": 1000, "s": 1000, "sec": 1000, "second": 1000}
_BYTES = {"": 1, "b": 1, "byte": 1}
_BYTES |= {unit: 1 << 10 for unit in ("kb", "kib", "kilobyte", "kibibyte")}
_BYTES |= {unit: 1 << 20 for unit in ("mb", "mib", "megabyte", "mebibyte")}
_BYTES |= {unit: 1 << 30 for unit in ("gb", "gib", "gigabyte", "gibibyte")}


def milliseconds(value: Any) -> int | None:
    """Read a time limit: ``"2.0 seconds"``, seconds as a number, ``{"seconds": 2, "nanos": 0}``.

    Returns:
        Milliseconds, or None where there is no limit (null, empty or 0).

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> milliseconds("2.5 seconds"), milliseconds({"seconds": 1, "nanos": 500_000_000})
        (2500, 1500)
    """
    if isinstance(value, dict):
        parts = [value.get(key) or 0 for key in ("seconds", "nanos")]
        if not all(isinstance(part, int) for part in parts):
            raise ValueError(f"time limit {value!r:.60}")
        value = parts[0] + parts[1] / 1e9
    return _scaled(value, _MILLISECONDS, 1, "time limit")


def kibibytes(value: Any) -> int | None:
    """Read a memory limit: ``"256 megabytes"`` (of 1024 KiB each), or bytes as a number.

    Returns:
        KiB, or None where there is no limit (null, empty or 0).

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> kibibytes("256.0 megabytes"), kibibytes(0)
        (262144, None)
    """
    return _scaled(value, _BYTES, 1024, "memory limit")


def _scaled(value: Any, units: dict[str, int], divisor: int, what: str) -> int | None:
    """Give a number with a unit as a whole number of ``divisor`` units, rounded up."""
    if value is None or value == "":
        return None
    match = None if isinstance(value, bool) else _NUMBER_AND_UNIT.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{what} {value!r:.60}")
    unit = match[2].lower()
    unit = unit if unit in units else unit.removesuffix("s")
    if unit not in units:
        raise ValueError(f"{what} {value!r:.60}")
    return math.ceil(float(match[1]) * units[unit] / divisor) or None
