"""What cannot be judged: signs in a statement, and samples that are no test data.

The signs are words, so everything found is listed with its reason. A word does not count where a
negation stands right before it ("not an interactive problem", "原为提交答案题").
"""

import re

from evaluator.suites.importers.draft import Reason

_NEGATION = re.compile(
    r"(?:不是|并非|原|不[要得可能会]).{0,7}$|(?:\b(?:not|cannot|never|without)\b|n['’]t\b).{0,12}$",
    re.IGNORECASE,
)
_NEGATION_REACH = 20  # characters before the word

_INTERACTIVE = re.compile(
    r"交互(?:题|式|库|器)|\binteractive (?:problem|task)\b|\binteractor\b"
    r"|(?:编写|实现)\s*(?:[下以如][面下列]|[一二两三四五六]个|\$?\d+\$?\s*个)的?\s*(?:函数|子程序)",
    re.IGNORECASE,
)
_ANSWER_ONLY = re.compile(
    r"提交答案|答案提交|命名为[^。\n]{0,40}\.(?:txt|out)\b"
    r"|\b(?:output|answer)[- ]only (?:problem|task)\b",
    re.IGNORECASE,
)
_NO_INPUT = re.compile(r"[（(]?无(?:输入)?[)）]?[。.]?")
_ELISION_WORDS = re.compile(r"省略|不予展示|[（(，,]略|[后下]略|不写了|未完")
_DOTS = re.compile(r"\.{3,6}")
_DOTS_ALONE = re.compile(r"\.{3,6}+(?:$|[(（ ])")  # also with a remark behind them
_CJK = re.compile(r"[\u4e00-\u9fff]")
_NOTE = re.compile(r"//.*|[（(].*[\u4e00-\u9fff].*[)）]|(?:注|注意|说明|解释|提示)[:：].*")
_NOTE_CHARACTERS = 500


def why_not_judgeable(statement: str, *, has_data: bool) -> Reason | None:
    """Say why no program for this problem can be judged, as far as its statement tells."""
    if says(statement, _INTERACTIVE):
        return Reason("interactive", "interactive, or a function to implement: no interactor here")
    if not has_data and says(statement, _ANSWER_ONLY):
        return Reason("answer-only", "answers are submitted, not a program")
    return None


def why_no_test(inp: str, out: str) -> Reason | None:
    """Say why a sample of a statement is no test, or None."""
    if _NO_INPUT.fullmatch(inp.strip()):
        return Reason("answer-only", f"the input is {inp.strip()!r}")
    sides = (("input", inp), ("output", out))
    for name, text in sides:
        if is_elided(text):
            return Reason("elided", f"part of the {name} is left out")
    for name, text in sides:
        if _CJK.search(text):
            return Reason("prose", f"the {name} is a description")
    if not out.strip():
        return Reason("no-output", "no output to compare with")
    return None


def is_elided(text: str) -> bool:
    r"""Whether part of a sample is cut out; a grid drawn with dots is not.

    Example:
        >>> [is_elided(text) for text in ("1 2\n...\n", "1 2 ... 9\n", "..#\n...\n")]
        [True, True, False]
    """
    if "…" in text or "。。。" in text or tells_of_elision(text):
        return True
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        tokens = line.split()
        if any(map(_DOTS.fullmatch, tokens)) and any(token.isdecimal() for token in tokens):
            return True  # 1 2 ... 9
        if _DOTS_ALONE.match(line) and not _in_grid(lines, index):
            return True
    return False


def tells_of_elision(note: str) -> bool:
    """Whether a note says that data is left out."""
    return _ELISION_WORDS.search(note) is not None


def split_note(text: str) -> tuple[str, str]:
    """Split a sample into its data and the notes for people that stand at its end."""
    lines = text.splitlines(keepends=True)
    end = len(lines)
    while end:
        line = lines[end - 1].strip()
        # the length bounds what the pattern's two stars can cost on a hostile line
        if line and (len(line) > _NOTE_CHARACTERS or not _NOTE.fullmatch(line)):
            break
        end -= 1
    if not any(line.strip() for line in lines[end:]):
        return text, ""
    return "".join(lines[:end]), "".join(lines[end:])


def says(text: str, sign: re.Pattern[str]) -> bool:
    """Whether a sign stands in a text without a negation right before it."""
    places = (match.start() for match in sign.finditer(text))
    return any(not _NEGATION.search(text[max(0, at - _NEGATION_REACH) : at]) for at in places)


def _in_grid(lines: list[str], index: int) -> bool:
    """Whether a line of dots has a like row beside it."""
    beside = lines[max(0, index - 1) : index] + lines[index + 1 : index + 2]
    return any(
        len(row) == len(lines[index]) and not re.search(r"[\s0-9]", row) and re.search(r"\W", row)
        for row in beside
    )
