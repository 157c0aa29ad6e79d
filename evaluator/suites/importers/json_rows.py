"""JSON lines and JSON arrays; what is no JSON becomes a fault, and the next item follows."""

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from typing import Any

MAX_BYTES = 256 << 20  # of a line or of a whole array
_MARK = b"\xef\xbb\xbf"  # of byte order
# a whole string, brackets in a row, or a comma; possessive, so that nothing is tried a second time
_JSON_PART = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]++|[\]}]++|,', re.DOTALL)
_JSON_SPACE = re.compile(r"[ \t\r\n]*")
_NEXT_ITEM = re.compile(r",\s*(?=\{)")
_MAX_FAULTS = 100  # in an array: telling the place of each takes time
_LINE_COST = 100  # bytes that a line counts beside its own: nothing but lines takes time too

Place = tuple[str, int, Any]  # "line", "row" or "item"; its number; its value or Fault


class Fault(str):
    """What stands in a row's place that could not be read."""


_TOO_LONG = Fault(f"more than {MAX_BYTES} bytes; expected one JSON object a line")
_ARRAY = Fault("an array where a line should be an object; name a file of one array .json")


def json_rows(
    stream: "BufferedReader[Any]", lines: bool, most: float = math.inf
) -> Iterator[Place]:
    """Yield JSON lines, or unless ``lines`` the items of an array; unpacks ``most`` bytes."""
    number = 0
    try:
        if not lines and stream.peek().removeprefix(_MARK).lstrip().startswith(b"["):
            yield from _array_items(stream.read(MAX_BYTES + 1))
            return
        for number, line in enumerate(iter(partial(stream.readline, MAX_BYTES + 1), b""), start=1):
            most -= len(line) + _LINE_COST
            if most < 0:
                yield "line", number, Fault("the packed file unpacks to far more than itself")
                return
            if len(line) > MAX_BYTES:
                yield "line", number, _TOO_LONG
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_BYTES)
            elif line.strip():
                yield "line", number, _parse(line, torn=number > 1 and line[-1:] != b"\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        fault = f"the packed file is broken from here on ({error})"
        yield "line", number + 1, Fault(fault)


def _parse(line: bytes, torn: bool) -> Any:
    """Read one value of JSON; a byte order mark may stand before it."""
    if line.removeprefix(_MARK).lstrip().startswith(b"["):
        return _ARRAY
    hint = "; the line is torn: was its writer killed?" if torn else ""
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Fault(f"not UTF-8 ({error}){hint}")
    except (ValueError, RecursionError) as error:
        return Fault(f"not JSON ({error}){hint}")


def _array_items(data: bytes) -> Iterator[Place]:
    if len(data) > MAX_BYTES:
        yield "item", 1, _TOO_LONG
        return
    # a byte that is no UTF-8 becomes half of a character, which no problem may have
    text = data.decode("utf-8-sig", "surrogateescape")
    decode, number, faults, balanced = json.JSONDecoder().raw_decode, 0, 0, True
    place = _behind_space(text, text.index("[") + 1)
    while place < len(text) and text[place] != "]" and faults < _MAX_FAULTS:
        number += 1
        try:
            value, end = decode(text, place)
        except (ValueError, RecursionError) as error:
            value, end = Fault(f"not JSON ({error})"), place
        end = _behind_space(text, end)
        if text[end : end + 1] not in (",", "]", ""):
            value = value if isinstance(value, Fault) else Fault("not JSON (no comma after it)")
            behind = _end_of_item(text, end) if balanced else None
            balanced = behind is not None  # else no bracket tells anything from here on
            if behind is None:
                found = _NEXT_ITEM.search(text, end)
                behind = found.start() if found else len(text)
            end = behind
        faults += isinstance(value, Fault)
        yield "item", number, value
        place = _behind_space(text, end + 1) if text[end : end + 1] == "," else end
    if text[place:].strip() != "]":
        fault = Fault(f"not JSON (the array does not end as it should: {text[place:][:20]!r})")
        yield "item", number + 1, fault


def _behind_space(text: str, place: int) -> int:
    found = _JSON_SPACE.match(text, place)
    return found.end() if found else place


def _end_of_item(text: str, place: int) -> int | None:
    """Where the comma or bracket behind a broken item stands, if its own brackets match."""
    depth = 0
    for part in _JSON_PART.finditer(text, place):
        mark, many = part[0][0], len(part[0])
        if mark in "[{":
            depth += many
        elif mark in "]}":
            if many > depth:
                return part.start() + depth
            depth -= many
        elif mark == "," and depth == 0:
            return part.start()
    return None
