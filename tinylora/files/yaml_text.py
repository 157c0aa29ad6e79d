"""YAML of others: plain data within bounds, and every fault named with its line.

A malformed file makes PyYAML's safe loader raise anything (ValueError, KeyError, RecursionError),
aliases let a small file stand for a huge one, and ``2020-99-99`` is an error where a name was
meant. Here dates are plain text.
"""

from typing import Any

import yaml

from tinylora.errors import YamlError

MAX_BYTES = 1 << 18
_MAX_DEPTH = 64
_MAX_NODES = 50_000  # an alias counts as all that it stands for
_MAX_NUMBER = 400  # characters; conversions of long numbers take quadratic time
_TEXT, _DATE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"


def load_yaml(data: bytes, where: str, *, texts: bool = False) -> Any:
    """Read one YAML document of UTF-8 (or UTF-16 with its byte order mark).

    Gives dicts, lists, sets, valid Unicode, numbers (also NaN and infinities), bools, bytes and
    None; with ``texts`` every scalar is the text that stands there. A YamlError names line and
    column of ``where``.
    """
    if len(data) > MAX_BYTES:
        raise YamlError(f"{where}: is larger than {MAX_BYTES >> 10} KiB, too large for such a file")
    try:
        return yaml.load(data, _Texts if texts else _Values)  # both are of the safe kind
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(f"{where}{place}: not valid YAML: {words}") from error
    except yaml.YAMLError as error:  # of bytes that are no text
        raise YamlError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


class _Bounded(yaml.BaseLoader):
    """Bounds what is composed, and says where a value could not be converted."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Count depth and nodes while a document is read."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._nodes
        self._depth += 1
        self._nodes += 1
        self._check(self._depth <= _MAX_DEPTH, f"nested deeper than {_MAX_DEPTH} levels", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and isinstance(event, yaml.AliasEvent):
            self._check(node in self._sizes, "an alias inside what it stands for", event)
            self._nodes += self._sizes[node]
        elif node is not None:
            self._sizes[node] = self._nodes - before
        self._check(self._nodes <= _MAX_NODES, f"more than {_MAX_NODES} values", event)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Turn any failure of a conversion into an error with the value's place."""
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        if node.tag != _TEXT and len(text) > _MAX_NUMBER:
            self._check(False, f"{len(text)} characters, expected at most {_MAX_NUMBER}", node)
        try:
            text.encode()  # half of a surrogate pair is no text
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            kind = node.tag.rpartition(":")[2]
            self._check(False, f"{text!r:.80} is no {kind} ({error!s:.100})", node)

    @staticmethod
    def _check(holds: bool, problem: str, place: Any) -> None:
        """Raise at an event or a node unless something holds."""
        if not holds:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


class _Texts(_Bounded):
    """Gives texts, lists and dicts alone."""


class _Values(_Bounded, yaml.SafeLoader):
    """Gives numbers and truths too, but no dates."""

    yaml_implicit_resolvers = {
        first: [resolver for resolver in resolvers if resolver[0] != _DATE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag != _DATE
    }
