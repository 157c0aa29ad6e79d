"""Decides, without running it, whether a pickle holds plain values and tensors, and nothing else.

Its opcodes are carried out on kinds of values in place of values. So code is refused, and whatever
would make a later reader hang or fail oddly: keys that expand (a tuple of tuples of the same tuple,
whose hash takes forever), changed attributes of a dict.
"""

import pickletools
from typing import Any

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
        self.stack: list[str | None] = []  # None: a mark
        self.memo: dict[Any, str] = {}

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
                self.stack.append("dict type" if argument.startswith("collections") else by_name)
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.last(int(name[5:]) if name[5:] else None)
                self.stack.append("tuple")
            case "SETITEM" | "APPEND":
                return self.fill(self.last(2 if name == "SETITEM" else 1), name)
            case "SETITEMS" | "APPENDS":
                return self.fill(self.last(None), name)
            case "REDUCE":
                function, arguments = self.last(2)
                if function not in ("function", "dict type") or arguments != "tuple":
                    return "a call of something that is no function"
                self.stack.append("container" if function == "dict type" else "tensor")
            case "BINPERSID":
                self.last(1)
                self.stack.append("storage")
            case _ if name in _PUSHES:
                self.stack.append(_PUSHES[name])
            case _:
                return repr(name)
        return None

    def last(self, count: int | None) -> list[str]:
        """Take so many values, or all since the last mark and the mark."""
        found: list[str] = []
        while len(found) != count:
            value = self.stack.pop()
            if value is None and count is not None:
                raise ValueError("a mark where a value is expected")
            if value is None:
                break
            found.append(value)
        return found[::-1]

    def fill(self, items: list[str], name: str) -> str | None:
        """Put items into a dict or a list."""
        for key in items[::2] if name.startswith("SETITEM") else []:
            if key not in ("text", "number"):
                return f"a key that is a {key}, expected a string"
        (filled,) = self.last(1)
        self.stack.append(filled)
        return None if filled == "container" else f"items that are put into a {filled}"
