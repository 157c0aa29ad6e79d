"""Decides, without running it, whether a pickle holds plain values and tensors, and nothing else.

Its opcodes are carried out on kinds of values in place of values. So code is refused, and whatever
would make a later reader hang or fail oddly: keys that expand (a tuple of tuples of the same tuple,
whose hash takes forever), changed attributes of a dict, storages without a device.
"""

import pickletools
from typing import Any, NamedTuple

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
_STORAGE_PARTS = ("text", "storage type", "text", "text", "number")


class _Value(NamedTuple):
    """Kind of a value, and the kinds of a tuple's own items."""

    kind: str
    items: tuple[str, ...] = ()


def check_pickle(pickled: bytes) -> str | None:
    """What a pickle contains that an artifact never needs; None where there is nothing.

    A damaged one is a ValueError, IndexError or KeyError.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if count > _MOST_OPCODES:
            return f"more than {_MOST_OPCODES} steps"
        if (refused := machine.carry_out(opcode.name, argument)) is not None:
            return refused
    return None


class _Machine:
    """What pickle's own machine would hold, in kinds."""

    def __init__(self) -> None:
        self.stack: list[_Value | None] = []  # None: a mark
        self.memo: dict[Any, _Value] = {}

    def carry_out(self, name: str, argument: Any) -> str | None:
        """One opcode; what is wrong with it, or None."""
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.stack.append(None)
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                (value,) = self.last(1)
                self.memo[len(self.memo) if argument is None else argument] = value
                self.stack.append(value)
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                if argument not in _SAFE_GLOBALS:
                    return repr(argument)
                by_name = "storage type" if argument.endswith("Storage") else "function"
                self.push("dict type" if argument.startswith("collections") else by_name)
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = self.last(int(name[5:]) if name[5:] else None)
                self.push("tuple", tuple(item.kind for item in items))
            case "SETITEM" | "APPEND":
                return self.fill(self.last(2 if name == "SETITEM" else 1), name)
            case "SETITEMS" | "APPENDS":
                return self.fill(self.last(None), name)
            case "REDUCE":
                function, arguments = self.last(2)
                if function.kind not in ("function", "dict type") or arguments.kind != "tuple":
                    return "a call of something that is no function"
                self.push("container" if function.kind == "dict type" else "tensor")
            case "BINPERSID":
                if self.last(1)[0].items != _STORAGE_PARTS:
                    return "a storage that is not described as torch.save does it"
                self.push("storage")
            case _ if name in _PUSHES:
                self.push(_PUSHES[name])
            case _:
                return repr(name)
        return None

    def last(self, count: int | None) -> list[_Value]:
        """Take so many values, or all since the last mark and the mark."""
        found: list[_Value] = []
        while len(found) != count:
            value = self.stack.pop()
            if value is None and count is not None:
                raise ValueError("a mark where a value is expected")
            if value is None:
                break
            found.append(value)
        return found[::-1]

    def push(self, kind: str, items: tuple[str, ...] = ()) -> None:
        """Add a value."""
        self.stack.append(_Value(kind, items))

    def fill(self, items: list[_Value], name: str) -> str | None:
        """Put items into a dict or a list."""
        for key in items[::2] if name.startswith("SETITEM") else []:
            if key.kind not in ("text", "number"):
                return f"a key that is a {key.kind}, expected a string"
        (container,) = self.last(1)
        self.stack.append(container)
        filled = container.kind
        return None if filled == "container" else f"items that are put into a {filled}"
