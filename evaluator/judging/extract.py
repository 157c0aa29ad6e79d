r"""Finding the program in a completion.

Only the completion is looked at, never the prompt (which shows an empty C++ block itself). The
candidates are its fenced C and C++ blocks; else what begins with an ``#include`` (the prompt may
have opened the fence); else strings of JSON that hold a program (calls of tools). What is no
program, having no ``main()`` or no ``#include``, is taken only where none of these finds one.
Nothing found is a typed failure, which the judge counts as a compile error and reports as such.

What stands behind the reasoning (``</think>``) goes before what stands in it, and what precedes an
end token before what follows it. Of several candidates in one place the best is taken, by the
first of these that tells them apart. :attr:`Extraction.choice` names it:

* ``program``: it is a program, a later one only a part of one;
* ``finished``: a later one is cut off by the end of the text;
* ``announced``: a later one is announced as brute force, a generator, wrong or a stub;
* ``last``: it is the last;
* ``joined``: it is made of parts, none of which is a program, from the first include to ``main()``;
* ``after_reasoning``: the reasoning has another; ``in_reasoning``: nothing stands behind it;
* ``only``: nothing had to decide.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from evaluator.judging.code_blocks import fenced_blocks, is_cpp_tag
from evaluator.judging.cpp_text import (
    INCLUDE_LINE,
    cleaned,
    end_of_program,
    has_include,
    has_main,
)
from evaluator.judging.reasoning import REASONING_END

How = Literal["fence", "unfinished_fence", "include", "json", "none"]
NoCodeReason = Literal["empty_completion", "other_language", "no_code"]
Choice = Literal[
    "only", "last", "program", "finished", "announced", "joined", "after_reasoning", "in_reasoning"
]

_END_TOKEN = re.compile(
    r"<\|[\w-]{2,40}\|>|<｜[^\n｜<>]{2,40}｜>|</s>[ \t]*$|<(?:end_of_turn|start_of_turn|eos)>",
    re.MULTILINE,
)
_OF_INCLUDES = re.compile(r"\s*(?:#[ \t]*(?:define|pragma|if|ifdef|ifndef)\b|//|$)")
_JSON_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"?')
_ASIDE = re.compile(
    r"暴力|对拍|朴素|数据生成|生成器|brute[- ]?force|naive|stress|generator"
    r"|^\W*(?:错误|反例|wrong|incorrect|buggy)",
    re.IGNORECASE,
)
_NO_ASIDE = re.compile(
    r"优化|改进|正解|正确|最终|完整|修正|修改|改[为成]|应[为该]|optimi[sz]|improv|\bcorrect|better"
    r"|fast|fix|final|instead|right",
    re.IGNORECASE,
)
_STUB = re.compile(r"你的代码|代码写在|在这里写|your (?:code|solution)|TODO|fill in", re.IGNORECASE)


@dataclass(frozen=True)
class Extraction:
    """What was found in a completion; ``how`` names the rule, ``choice`` what decided."""

    code: str | None
    how: How
    reason: NoCodeReason | None = None
    choice: Choice = "only"


@dataclass(frozen=True)
class _Candidate:
    code: str
    how: How
    finished: bool
    label: str = ""

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Whether it may compile by itself, is finished, and may be meant as the answer."""
        aside = _ASIDE.search(self.label) is not None and _NO_ASIDE.search(self.label) is None
        comments = (line for line in self.code.split("\n") if "//" in line or "/*" in line)
        aside = aside or any(map(_STUB.search, comments))
        return has_include(self.code) and has_main(self.code), self.finished, not aside


class _Found(NamedTuple):
    extraction: Extraction  # the best of a place
    is_program: bool


def extract_code(completion: str) -> Extraction:
    r"""Find the program in a completion.

    Example:
        >>> extract_code("So:\n```cpp\nint main(){}\n```\nDone.").code
        'int main(){}\n'
    """
    if not completion.strip():
        return Extraction(None, "none", "empty_completion")
    *reasoning, answer = REASONING_END.split(completion)
    draft = _find("".join(reasoning))
    found = _first_program(_find(part) for part in _END_TOKEN.split(answer))
    chosen = _first_program((found, draft))
    if chosen is None:
        tags = [block.tag for block in fenced_blocks(completion) if block.code.strip()]
        other = any(tag and not is_cpp_tag(tag) for tag in tags)
        return Extraction(None, "none", "other_language" if other else "no_code")
    if chosen is draft:
        if found is None and chosen.extraction.choice != "only":
            return chosen.extraction
        return replace(chosen.extraction, choice="in_reasoning" if found is None else "program")
    extraction = chosen.extraction
    if draft is None or extraction.choice != "only" or draft.extraction.code == extraction.code:
        return extraction
    return replace(extraction, choice="after_reasoning")


def _first_program(found: Iterable[_Found | None]) -> _Found | None:
    """The first that is a program, else the first that is anything."""
    first = None
    for one in found:
        if one is not None and one.is_program:
            return one
        first = first or one
    return first


def _find(text: str) -> _Found | None:
    """The best by the first rule that finds a program, else by the first that finds anything."""
    rules = (_in_fences, _from_includes, _in_json)
    return _first_program(_best(list(rule(text))) for rule in rules)


def _in_fences(text: str) -> Iterator[_Candidate]:
    """C and C++ blocks; one without a tag must look like it, one with another be a program."""
    for block in fenced_blocks(text):
        include, main = has_include(block.code), has_main(block.code)
        is_cpp = is_cpp_tag(block.tag) or (not block.tag and (include or main))
        if is_cpp or (include and main):
            end, whole = end_of_program(block.code)
            code = block.code if block.end == "closed" else block.code[:end]
            how: How = "unfinished_fence" if block.end == "open" else "fence"
            how = how if is_cpp else "include"
            yield _Candidate(cleaned(code), how, whole or block.end == "closed", block.label)


def _from_includes(text: str) -> Iterator[_Candidate]:
    """What begins with an include, and with the directives right before it."""
    end = 0
    while (include := INCLUDE_LINE.search(text, end)) is not None:
        start = line = include.start()
        while line > end:
            line, after = text.rfind("\n", end, line - 1) + 1 or end, line
            if not _OF_INCLUDES.match(text[line : after - 1]):
                break
            start = line if text[line:after].strip() else start
        end, whole = end_of_program(text, include.start())
        yield _Candidate(cleaned(text[start:end]), "include", whole)


def _in_json(text: str) -> Iterator[_Candidate]:
    for string in _JSON_STRING.finditer(text):
        if "include" in string[0]:
            try:
                code = json.loads(string[0], strict=False)
            except ValueError:
                continue
            if has_include(code) and has_main(code):
                yield _Candidate(cleaned(code), "json", finished=True)


def _best(candidates: Sequence[_Candidate]) -> _Found | None:
    candidates = [candidate for candidate in candidates if candidate.code.strip()]
    if not candidates:
        return None
    ranks = [candidate.rank for candidate in candidates]
    best = max(range(len(candidates)), key=lambda n: (ranks[n], n))
    chosen = candidates[best]
    if not ranks[best][0] and (joined := _joined(candidates)) is not None:
        return _Found(Extraction(joined, chosen.how, choice="joined"), True)
    choice: Choice = "last"
    if all(candidate.code.strip() == chosen.code.strip() for candidate in candidates):
        choice = "only"
    elif ranks[best] != ranks[-1]:
        names: tuple[Choice, ...] = ("program", "finished", "announced")
        pairs = zip(names, ranks[best], ranks[-1], strict=True)
        choice = next(name for name, a, b in pairs if a != b)
    return _Found(Extraction(chosen.code, chosen.how, choice=choice), ranks[best][0])


def _joined(candidates: Sequence[_Candidate]) -> str | None:
    """The parts from the first include to the only main(), none of which is a program."""
    mains = [n for n, candidate in enumerate(candidates) if has_main(candidate.code)]
    includes = [n for n, candidate in enumerate(candidates) if has_include(candidate.code)]
    if len(mains) != 1 or not includes or includes[0] > mains[0]:
        return None
    parts = candidates[includes[0] : mains[0] + 1]
    return "".join(p.code if p.code.endswith("\n") else f"{p.code}\n" for p in parts)
