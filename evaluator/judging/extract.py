"""Finding the program in a completion.

Only the completion is looked at, never the prompt (which shows an empty C++ block itself): the
last complete fenced C/C++ block that is not blank; else an unfinished one at the end (the
generation ran out of tokens); else everything from the first ``#include`` on. Anything else is a
typed failure, which the judge counts as a compile error and reports as such.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

How = Literal["fence", "unfinished_fence", "include", "none"]
NoCodeReason = Literal["empty_completion", "other_language", "no_code"]

_FENCE = re.compile(r"^[ \t>]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*?)[ \t\r]*$")
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b", re.MULTILINE)
_LOOKS_LIKE_CPP = re.compile(r"#[ \t]*include\b|\bmain[ \t]*\(")
_CPP_TAGS = frozenset({"c", "c++", "cpp", "cc", "cxx", "c++11", "c++14", "c++17", "c++20", "cpp14"})


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
            return self.tag.strip("{}.").split(",")[0] in _CPP_TAGS
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
        fence = _FENCE.match(line.rstrip("\n"))
        if opening is None:
            opening, lines = fence, []
        elif fence is not None and not fence["info"] and _closes(fence["fence"], opening["fence"]):
            yield _Block(_tag(opening), "".join(lines), closed=True)
            opening = None
        else:
            lines.append(line)
    if opening is not None:
        yield _Block(_tag(opening), "".join(lines), closed=False)


def _closes(fence: str, opening: str) -> bool:
    """Whether a fence ends a block: the same character, at least as many of it."""
    return fence[0] == opening[0] and len(fence) >= len(opening)


def _tag(opening: re.Match[str]) -> str:
    """The language of a block: the first word after its fence, in lower case."""
    words = opening["info"].split()
    return words[0].lower() if words else ""


def _until_fence(text: str) -> str:
    """Cut at the next fence line (of a block that the prompt had opened)."""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if _FENCE.match(line.rstrip("\n")):
            break
        lines.append(line)
    return "".join(lines)
