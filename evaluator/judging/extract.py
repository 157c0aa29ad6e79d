"""Finding the program in a completion.

Only the completion is looked at, never the prompt (which shows an empty C++ block itself): the
last complete fenced C/C++ block that is not blank; else an unfinished one at the end (the
generation ran out of tokens); else everything from the first ``#include`` on. Anything else is a
typed failure, which the judge counts as a compile error and reports as such. A fence that stands
right behind the last statement, where Markdown does not see one, ends a block too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

How = Literal["fence", "unfinished_fence", "include", "none"]
NoCodeReason = Literal["empty_completion", "other_language", "no_code"]

_FENCE = re.compile(r"^[ \t>]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*?)[ \t\r]*$")
# Backticks mean nothing in C++: behind a statement they are the fence that lost its line break.
_CLOSING = re.compile(r"^(?:[ \t>]*|(?P<code>.*[;}])[ \t]*)(?P<fence>`{3,}|~{3,})[ \t\r]*$")
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b", re.MULTILINE)
_LOOKS_LIKE_CPP = re.compile(r"#[ \t]*include\b|\bmain[ \t]*\(")
_CPP_TAG = re.compile(r"c|cc|cxx|(c|gnu)(\+\+|pp)(\d\w)?")  # c++, cpp17, gnu++2a


@dataclass(frozen=True)
class Extraction:
    """What was found in a completion.

    Attributes:
        code: The program, or None.
        how: By which rule.
        reason: Why there is no code; None where there is.
    """

    code: str | None
    how: How
    reason: NoCodeReason | None = None


@dataclass(frozen=True)
class _Block:
    tag: str
    code: str
    closed: bool

    @property
    def is_cpp(self) -> bool:
        """Whether it is meant as C or C++; an untagged block must look like it."""
        if not self.code.strip():
            return False
        if self.tag:
            return _CPP_TAG.fullmatch(self.tag.strip("{}.").split(",")[0]) is not None
        return _LOOKS_LIKE_CPP.search(self.code) is not None


def extract_code(completion: str) -> Extraction:
    r"""Find the program in a completion.

    Example:
        >>> extract_code("So:\n```cpp\nint main(){}\n```\nDone.").code
        'int main(){}\n'
    """
    if not completion.strip():
        return Extraction(None, "none", "empty_completion")
    blocks = list(_blocks(completion))
    complete = [block for block in blocks if block.closed and block.is_cpp]
    if complete:
        return Extraction(complete[-1].code, "fence")
    unfinished = [block for block in blocks if not block.closed and block.is_cpp]
    if unfinished:
        return Extraction(unfinished[-1].code, "unfinished_fence")
    tagged_otherwise = [b for b in blocks if b.tag and b.code.strip() and not b.is_cpp]
    if (include := _INCLUDE.search(completion)) is not None:
        return Extraction(_until_fence(completion[include.start() :]), "include")
    return Extraction(None, "none", "other_language" if tagged_otherwise else "no_code")


def _blocks(text: str) -> Iterator[_Block]:
    """Yield the fenced blocks in order; the last one may be open."""
    opening: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if opening is None:
            opening, lines = _FENCE.match(line.rstrip("\n")), []
        elif (code := _before_closing(line, opening["fence"])) is not None:
            yield _Block(_tag(opening), "".join([*lines, code]), closed=True)
            opening = None
        else:
            lines.append(line)
    if opening is not None:
        yield _Block(_tag(opening), "".join(lines), closed=False)


def _before_closing(line: str, opening: str) -> str | None:
    """The code of a line that ends a block; None where it does not.

    The fence that ends it has the character of the one that opened it, at least as many times.
    """
    found = _CLOSING.match(line.rstrip("\n"))
    if found is None or not found["fence"].startswith(opening):
        return None
    return found["code"] or ""


def _tag(opening: re.Match[str]) -> str:
    """The language of a block: the first word after its fence, in lower case."""
    words = opening["info"].split()
    return words[0].lower() if words else ""


def _until_fence(text: str) -> str:
    """Cut at the next fence (of a block that the prompt had opened)."""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if _FENCE.match(line.rstrip("\n")):
            break
        if code := _before_closing(line, "```"):
            return "".join([*lines, code])
        lines.append(line)
    return "".join(lines)
