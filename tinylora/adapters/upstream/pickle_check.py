"""Decides, without running it, whether a pickle holds plain values and tensors, and nothing else.

Its opcodes are carried out on kinds of values in place of values. So code is refused, and whatever
would make a later reader hang or fail oddly: keys that expand (a tuple of tuples of the same tuple,
whose hash takes forever), changed attributes of a dict, storages without a device.
"""

import pickletools
from dataclasses import dataclass, field

# Names that torch.save uses for tensors and the parameters that hold them.
_SAFE_GLOBALS = frozenset(
    {"collections OrderedDict"}
    | {f"torch._utils _rebuild_{kind}" for kind in ("tensor_v2", "parameter")}
    | {f"torch {kind}Storage" for kind in ("BFloat16", "Half", "Float", "Double", "Long", "Int")}
    | {f"torch {kind}Storage" for kind in ("Short", "Char", "Byte", "Bool")}
)
_MOST_OPCODES = 100_000
# Opcode -> kind of the value that it pushes.
_PUSHES = {
    **dict.fromkeys(("NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT"), "number"),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4"), "number"),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), "text"),
    **dict.fromkeys(("EMPTY_DICT", "EMPTY_LIST"), "container"),
    "EMPTY_TUPLE": "tuple",
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STORAGE_PARTS = ("text", "storage type", "text", "text", "number")


@dataclass(frozen=True)
class _Value:
    """Kind of a value, and the kinds of a tuple's own items."""

    kind: str
    items: tuple[str, ...] = ()


@dataclass
class _Machine:
    """What pickle's own machine would hold, in kinds."""

    stack: list[_Value | None] = field(default_factory=list)  # None: a mark
    memo: dict[int, _Value] = field(default_factory=dict)

    def since_mark(self) -> list[_Value]:
        """Take what was pushed since the last mark, and the mark."""
        found: list[_Value] = []
        while (value := self.stack.pop()) is not None:
            found.append(value)
        return found[::-1]

    def pop(self) -> _Value:
        """Take the last value."""
        value = self.stack.pop()
        if value is None:
            raise ValueError("a mark where a value is expected")
        return value

    def push(self, kind: str, items: tuple[str, ...] = ()) -> None:
        """Add a value."""
        self.stack.append(_Value(kind, items))


def check_pickle(pickled: bytes) -> str | None:
    """What a pickle contains that an artifact never needs; None where there is nothing.

    Raises:
        ValueError, IndexError, KeyError: It is damaged.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if count > _MOST_OPCODES:
            return f"more than {_MOST_OPCODES} steps"
        refused = _carry_out(machine, opcode.name, argument)
        if refused is not None:
            return refused
    return None


def _carry_out(machine: _Machine, name: str, argument: object) -> str | None:
    """One opcode; what is wrong with it, or None."""
    match name:
        case "PROTO" | "FRAME" | "STOP":
            return None
        case "MARK":
            machine.stack.append(None)
        case "BINPUT" | "LONG_BINPUT":
            machine.memo[argument] = _last(machine)  # type: ignore[index]
        case "MEMOIZE":
            machine.memo[len(machine.memo)] = _last(machine)
        case "BINGET" | "LONG_BINGET":
            machine.stack.append(machine.memo[argument])  # type: ignore[index]
        case "GLOBAL":
            if argument not in _SAFE_GLOBALS:
                return repr(argument)
            kinds = {"collections OrderedDict": "dict type"}
            by_name = "storage type" if str(argument).endswith("Storage") else "function"
            machine.push(kinds.get(str(argument), by_name))
        case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
            _tuple(machine, name)
        case "SETITEM" | "SETITEMS" | "APPEND" | "APPENDS":
            return _fill(machine, name)
        case "REDUCE":
            arguments, function = machine.pop(), machine.pop()
            if function.kind not in ("function", "dict type") or arguments.kind != "tuple":
                return "a call of something that is no function"
            machine.push("container" if function.kind == "dict type" else "tensor")
        case "BINPERSID":
            if machine.pop().items != _STORAGE_PARTS:
                return "a storage that is not described as torch.save does it"
            machine.push("storage")
        case _ if name in _PUSHES:
            machine.push(_PUSHES[name])
        case _:
            return repr(name)
    return None


def _last(machine: _Machine) -> _Value:
    value = machine.pop()
    machine.stack.append(value)
    return value


def _tuple(machine: _Machine, name: str) -> None:
    """Make a tuple of the last values."""
    if name == "TUPLE":
        items = machine.since_mark()
    else:
        items = [machine.pop() for _ in range(_TUPLES[name])][::-1]
    machine.push("tuple", tuple(item.kind for item in items))


def _fill(machine: _Machine, name: str) -> str | None:
    """Put items into a dict or a list."""
    is_dict = name.startswith("SETITEM")
    if name.endswith("S"):
        items = machine.since_mark()
    else:
        items = [machine.pop() for _ in range(2 if is_dict else 1)][::-1]
    keys = items[::2] if is_dict else []
    if odd := [key.kind for key in keys if key.kind not in ("text", "number")]:
        return f"a key that is a {odd[0]}, expected a string"
    container = _last(machine)
    return None if container.kind == "container" else f"items that are put into a {container.kind}"
