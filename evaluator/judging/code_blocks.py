"""Fenced blocks of a completion, as models write them and not only as Markdown has them.

A fence may also have code behind it (```` ```cpp #include <cstdio>````), close behind a statement
(``}``` ``) or before other text, and open anew inside an open block, whose text was then a draft.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Literal

_FENCE = re.compile(r"[ \t>]*(?P<fence>`{3,}+|~{3,}+)(?P<info>[^`\n]*+)$")
# Backticks mean nothing in C++: behind a statement they are the fence that lost its line break.
_INSIDE = re.compile(
    r"(?:[ \t>]*(?P<fence>`{3,}+|~{3,}+)|(?P<code>.*[;}])[ \t]*(?P<glued>`{3,}+))"
    r"(?P<info>[^`\n]*+)$"
)
_INFO = re.compile(
    r"[\s{.]*(?:lang(?:uage)?[-=])?(?P<tag>[a-z]\w*(?:\+\+\w*)?(?:#(?![a-z]))?)?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_CODE = re.compile(
    r"\s*(?:#\s*(?:include|define|pragma|if|ifdef|ifndef)\b|//|/\*|using\s|typedef\s|template\s*<"
    r"|(?:const|struct|class)\s+\w|(?:int|signed|auto|void)\s+\w+\s*\()"
)
_ONE_WORD = re.compile(r"\s*[A-Za-z][\w+#.:-]{0,20}\s*")
_CPP_TAG = re.compile(r"c|cc|cxx|h|hh|hpp|hxx|c\d\d|(?:c|gnu)(?:\+\+|pp|plusplus)(?:\d\w)?")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        tag: The language that its fence names, in lower case, or nothing.
        end: A closing fence, a fence that opens another block, or the end of the text.
        label: The last line of text before it.
    """

    tag: str
    code: str
    end: Literal["closed", "reopened", "open"]
    label: str


def is_cpp_tag(tag: str) -> bool:
    """Whether a word, in lower case, names C or C++, a version of it or its headers."""
    return _CPP_TAG.fullmatch(tag) is not None


@dataclass
class _Open:
    """A block whose end has not been read."""

    fence: str
    tag: str
    lines: list[str]
    label: str
    quote: re.Pattern[str] | None

    def ended(self, end: Literal["closed", "reopened", "open"]) -> Block:
        tag, lines = self.tag, self.lines
        if not tag and lines and is_cpp_tag(lines[0].strip().lower()):
            tag, lines = lines[0].strip().lower(), lines[1:]  # the fence lost its tag
        return Block(tag, "".join(lines), end, self.label)


def fenced_blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks in order; the last one may be open."""
    block: _Open | None = None
    label = ""
    for line in StringIO(text, newline="\n"):
        if block is None:
            if (found := _FENCE.match(line)) is not None:
                block, label = _opened(found, label), ""
            else:
                label = line.strip() or label
            continue
        if block.quote is not None:
            line = block.quote.sub("", line)
        found = _INSIDE.match(line)
        meaning = "text" if found is None else _meaning(found, block)
        if found is None or meaning == "text":
            block.lines.append(line)
        elif meaning == "closed":
            block.lines.append(found["code"] or "")
            yield block.ended("closed")
            block = None
        else:
            yield block.ended("reopened")
            block = _opened(found, "")
    if block is not None:
        yield block.ended("open")


def _opened(found: re.Match[str], label: str) -> _Open:
    """The block that a fence opens; code may stand behind it."""
    tag, code = _tag_and_code(found["info"])
    quotes = found.string[: found.start("fence")].count(">")
    quote = re.compile(rf"\A(?:[ \t]*> ?){{1,{quotes}}}") if quotes else None
    return _Open(found["fence"], tag, [f"{code}\n"] if code else [], label, quote)


def _tag_and_code(info: str) -> tuple[str, str]:
    if _CODE.match(info):
        return "", info.strip()
    found = _INFO.match(info)
    assert found is not None  # all of it is optional
    code = found["rest"].strip() if _CODE.match(found["rest"]) else ""
    return (found["tag"] or "").lower(), code


def _meaning(found: re.Match[str], block: _Open) -> Literal["text", "closed", "reopened"]:
    """What a line with a fence means inside of a block; it closes with its own kind of fence."""
    tag, code = _tag_and_code(found["info"])
    opens = found["fence"] is not None and (
        code != "" or is_cpp_tag(tag) or _ONE_WORD.fullmatch(found["info"]) is not None
    )
    if (found["fence"] or found["glued"]).startswith(block.fence):
        return "reopened" if opens else "closed"
    return "reopened" if opens and is_cpp_tag(tag) and not is_cpp_tag(block.tag) else "text"
