"""Malformed inputs for whatever reads files that are not ours: how they are made, run and bounded.

To fuzz a reader, add ``Reader(name, write, read)`` to a tuple ``READERS`` in any file of
``tests/fuzz/readers/``. ``write(random, folder)`` writes one malformed input into an empty folder
and gives its path; ``read(path)`` may return, raise an error of the project, or assert something
("the good row beside the bad one is still read"). All else is a finding: another exception, a
crash, more than ten seconds, more than a gigabyte. Randomness comes from the argument alone, seeded
by the reader's name and the input's number, so that every finding can be made again::

    make fuzz                                             40 000 inputs of each reader
    make fuzz FUZZ_INPUTS=50000 READERS=placement         more, of one
    python -m tests.fuzz.fuzzer NAME 417 1 /tmp/again     input 417 of one; it stays in the folder
"""

import copy
import importlib
import json
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from tests.forked import ForkServer

MAX_SECONDS = 10
MAX_BYTES = 1 << 30  # on top of what the process had before it read the input
_KILL_SECONDS = 20  # a reader that does not come back ends its process


@dataclass(frozen=True)
class Reader:
    """Something that reads files of others; the name is a seed too.

    A slow one takes a ``share`` of the inputs that others get.
    """

    name: str
    write: Callable[[Random, Path], Path]
    read: Callable[[Path], object]
    share: float = 1.0


class Spelled(str):
    """Text that stands in the file as it is: numbers and nesting that no writer would give."""


def nested(depth: int, opening: str = "[", closing: str = "]") -> Spelled:
    return Spelled(opening * depth + closing * depth)


NUMBERS = (0, -1, 1, 0.5, 256, 2**31, 2**63, 2**64, -(2**63), 1e308, 5e-324)
NUMBERS += tuple(map(Spelled, ("1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 400, "9" * 5000)))
TEXTS = ("", " ", "\0", "\n", "\r\n", "\ud800", "\udcff", "a\udc80b", "\u2028", "\ufeff", "…", "无")
TEXTS += ("x" * 70_000, "../../etc/passwd", "/dev/zero", "\x1b[31m", "[bold]x[/bold", "[/]")
TEXTS += ("%s%n", "nan", "1e400", "9" * 5000, "-5", "2021-13-45", "é" * 300, "[" * 500, "{{x}}")
NESTED = (nested(40), nested(900), nested(100_000), Spelled("[" * 100_000), Spelled('{"a":' * 3000))
NESTED += (nested(2000, '{"a":[', "]}"), [], {}, [None], [[]], {"": None}, [1, "a", {}], {"a": {}})
ODD_JSON = (None, True, False, *NUMBERS, *TEXTS, *NESTED)
_YAML = r"""
.inf -.inf .nan ~ 2021-13-45 2021-02-03 2021-02-03T25:61:00 1_000 190:20:30 0x1F 0o17 0b2 ? -
!!int,x !!int,: !!float,y !!timestamp,z !!binary,? !!bool,7 !!null,1 !!set,{a} !!omap,[a]
!!pairs,[a] !!str,[a] !a,b !!python/object/apply:os.getcwd,[] &a,[*a] *a {<<:,[1]} {[a]:,1}
{{a}:,b} ?,a -,-,- |,x ' "\uD800" "\x00" %YAML,9.9 --- ... & * ! @ ` #
"""
ONLY_YAML = _YAML.replace(",", "\0").split()
ODD_YAML = (*ODD_JSON, *(Spelled(odd.replace("\0", " ")) for odd in ONLY_YAML))


def mutated_value(random: Random, value: Any, odd: Sequence[Any] = ODD_JSON) -> Any:
    """Change a tree of dicts and lists in one to four places; the argument stays."""
    root = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if root:
            _change(random, *random.choice(list(_places(root))), odd)
    return root[0] if root else None


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every (dict or list, key or index) of a tree."""
    for key, inner in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _change(random: Random, holder: Any, key: Any, odd: Sequence[Any]) -> None:
    value, kind = holder[key], random.randrange(9)
    if kind < 4:
        holder[key] = copy.deepcopy(random.choice(odd))
    elif kind == 4 and isinstance(value, str) and not isinstance(value, Spelled):
        place = random.randint(0, len(value))
        holder[key] = value[:place] + random.choice(TEXTS) + value[place:]
    elif kind == 5 and isinstance(value, int | float):
        holder[key] = random.choice((-value, value * 1000, value + 0.5, value * 2**40, str(value)))
    elif kind == 6 and isinstance(holder, dict):
        holder[random.choice((*TEXTS[:16], str(key).upper(), f"{key}s", "name", "id"))] = value
        if random.random() < 0.7:
            holder.pop(key)
    elif kind == 7:
        holder[key] = [value] * random.choice((1, 2, 50))
    else:
        del holder[key]


def malformed_json(random: Random, value: Any) -> bytes:
    """Spell a value as JSON, changed as a value, as bytes, or both."""
    return _malformed(random, value, ODD_JSON, (b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\u"))


def malformed_yaml(random: Random, value: Any) -> bytes:
    """The same as YAML (of which JSON is a part), with YAML's own oddities."""
    tokens = [odd.replace("\0", " ").encode() for odd in ONLY_YAML]
    return _malformed(random, value, ODD_YAML, [*tokens, b": ", b"\n  ", b"<<:", b"\t", b"{", b"}"])


def _malformed(random: Random, value: Any, odd: Sequence[Any], tokens: Sequence[bytes]) -> bytes:
    as_value, as_bytes = random.choice(((True, False), (True, False), (False, True), (True, True)))
    data = spell(random, mutated_value(random, value, odd) if as_value else value)
    return mutated_bytes(random, data, tokens) if as_bytes else data


def spell(random: Random, value: Any) -> bytes:
    """Spell a value as one line of JSON; lone surrogates as escapes or as bytes."""
    kept: list[str] = []

    def without_spelled(part: Any) -> Any:
        if isinstance(part, Spelled):
            kept.append(str(part))
            return f"\ue000{len(kept) - 1}\ue001"
        if isinstance(part, dict):
            return {key: without_spelled(inner) for key, inner in part.items()}
        return list(map(without_spelled, part)) if isinstance(part, list) else part

    plain = without_spelled(value)
    text = json.dumps(plain, ensure_ascii=False)
    for number, spelled in enumerate(kept):
        text = text.replace(f'"\ue000{number}\ue001"', spelled)
    if random.random() < 0.8:
        text = "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text.encode("utf-8", "surrogatepass")


TOKENS = (b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"\n", b"\r", b" ", b"9" * 400)
TOKENS += (b"-1", b"\x1b[0m", "加法".encode("gbk"), b"\xed\xa0\x80", b"\x7f" * 9, b"0", b"")


def mutated_bytes(random: Random, data: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """Flip, insert, delete, repeat, move or cut bytes in one to eight places."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        place, other = sorted(random.randint(0, len(changed)) for _ in "12")
        kind = random.randrange(7)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << random.randrange(8)
        elif kind <= 2:
            changed[place:place] = random.choice((*TOKENS, *tokens))
        elif kind == 3:
            del changed[place : min(other, place + random.choice((1, 4, 64)))]
        elif kind == 4:
            piece = changed[place : min(other, place + 4096)]
            changed[place:place] = piece * random.choice((1, 20))
        elif kind == 5 and random.random() < 0.3:
            del changed[place:]
        else:
            changed[place:other] = random.choice((*TOKENS, *tokens))
    return bytes(changed)


def readers() -> dict[str, Reader]:
    """All readers of ``tests/fuzz/readers``, by their names."""
    found: dict[str, Reader] = {}
    for path in sorted(Path(__file__).with_name("readers").glob("*.py")):
        for reader in importlib.import_module(f"tests.fuzz.readers.{path.stem}").READERS:
            assert reader.name not in found, f"two readers are named {reader.name}"
            found[reader.name] = reader
    return found


def fuzz(server: ForkServer, name: str, count: int, folder: Path) -> dict[int, str]:
    """Give a reader its first inputs, in a process that may die; findings keep their folders."""
    found: list[str | None] = []
    while len(found) < count:
        lines = folder / f"from-{len(found)}.jsonl"
        work = {"name": name, "first": len(found), "count": count - len(found)}
        status = server.run(work | {"folder": str(folder), "lines": str(lines)})
        found += map(json.loads, lines.read_text().splitlines())
        if status:
            found.append(f"ended the process (wait status {status})")
    return {number: what for number, what in enumerate(found) if what is not None}


def child(fields: dict[str, Any]) -> None:
    """Do some inputs and write a line of JSON for each: null, or what was found.

    Without fields, one input of every reader, for what libraries load on first use.
    """
    if not fields:
        with TemporaryDirectory() as folder:
            for number, reader in enumerate(readers().values()):
                (mine := Path(folder) / str(number)).mkdir()
                _one(reader, 0, mine)
        return
    reader, count, folder = readers()[fields["name"]], fields["count"], Path(fields["folder"])
    _bound_memory()
    with Path(fields["lines"]).open("w", buffering=1) as lines:
        for number in range(fields["first"], fields["first"] + count):
            mine = folder / str(number)
            mine.mkdir()
            what = _one(reader, number, mine)
            if what is None and count > 1:
                shutil.rmtree(mine)
            lines.write(json.dumps(what) + "\n")


def _one(reader: Reader, number: int, folder: Path) -> str | None:
    """Write and read one input; what was found, or None."""
    from tinylora.errors import TinyLoRAError

    path = reader.write(Random(f"{reader.name}/{number}"), folder)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = _memory("VmRSS"), time.process_time()
    what = None
    signal.setitimer(signal.ITIMER_REAL, _KILL_SECONDS)  # its default is to end the process
    try:
        reader.read(path)
    except TinyLoRAError as error:
        str(error)
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-6:]
        places = " < ".join(f"{Path(at.filename).name}:{at.lineno}" for at in reversed(last))
        what = f"{type(error).__name__}: {error!s:.300} ({places})"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds, grown = time.process_time() - start, _memory("VmHWM") - before
    if seconds > MAX_SECONDS or grown > MAX_BYTES:
        what = f"{seconds:.1f} s, {grown >> 20} MiB; {what}"
    return what


def _memory(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) << 10


def _bound_memory() -> None:
    """Let no input take the machine's memory before it is measured."""
    limit = _memory("VmData") + 3 * MAX_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    name, first, count, folder = sys.argv[1:]
    work = {"name": name, "first": int(first), "count": int(count), "folder": folder}
    child(work | {"lines": "/dev/stdout"})
