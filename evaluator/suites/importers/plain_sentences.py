r"""Statements as plain sentences, for those who look for words in them.

Small letters, without the marks of Markdown, LaTeX and HTML. A small number (``$10^{ - 6}$``,
``1e-6``, ``0.001``) is a token ``\x01K\x02``, K being its place in a list of their values.
"""

import html
import re

_HALF = 1 << 17  # characters at a statement's beginning and end; bounds the time of a hostile one
_MAX_SENTENCE, _OVERLAP = 600, 200  # a longer sentence is looked at in pieces

_SIGNS = str.maketrans(
    dict.fromkeys("−–—‐‑－", "-")
    | dict.fromkeys("’‘ʼ´", "'")
    | dict.fromkeys("$`{}*~_\\", "")
    | {"（": "(", "）": ")", "，": ",", "≤": "<=", "⩽": "<=", "＜": "<", "×": "x", "\xa0": " "}
)
_SUPERSCRIPT = re.compile("[⁻⁰¹²³⁴-⁹]+")
_DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_MARKS = {
    r"\\(?:leqslant|leq|le)(?![a-z])": "<=",
    r"\\lt(?![a-z])": "<",
    r"\\(?:times|cdot)(?![a-z])": "x",
    r"\\(?:text|mathrm|mathbf|rm|left|right|operatorname|displaystyle)(?![a-z])": "",
    r"\\[,;! ]": " ",
    r"<sup>": "^",
    r"</?(?:p|b|i|tt|em|br|li|ul|div|sup|sub|span|code|strong|font|var)\b[^<>]{0,200}>": "",
}
_SENTENCE_END = re.compile(r"[。;；!?！？]|\.(?=\s|$)|\n\s*\n")
_SMALL_NUMBER = re.compile(
    r"(?<![\d.])(?:(?P<mantissa>\d+(?:\.\d+)?) ?e ?- ?(?P<exponent>\d{1,2})(?!\d)"
    r"|(?:(?P<times>\d+(?:\.\d+)?) ?x ?)?10 ?(?:的 ?)?\^? ?\(? ?(?:-|负) ?(?P<power>\d{1,2})(?!\d)"
    r"|(?P<decimal>0?\.\d{1,18})(?![\d.]))"
    r"(?! ?(?:seconds?|s|ms|[ckm]?m|k?g|met\w+|degrees?|percent)\b| ?[%秒毫米厘度克元])"
)


def plain_sentences(statement: str) -> tuple[list[str], list[float]]:
    r"""Give a statement's sentences, and the values of the small numbers in them.

    Example:
        >>> plain_sentences("Print it. The **error** is at most $10^{ - 6}$.")
        (['print it', 'the error is at most \x010\x02'], [1e-06])
    """
    if len(statement) > 2 * _HALF:
        statement = f"{statement[:_HALF]}\n\n{statement[-_HALF:]}"
    text = html.unescape(statement).lower()
    for pattern, plain in _MARKS.items():
        text = re.sub(pattern, plain, text)
    text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_DIGITS), text.translate(_SIGNS))
    numbers: list[float] = []

    def token(match: re.Match[str]) -> str:
        exponent = match["exponent"] or match["power"]
        spelled = match["decimal"] or f"{match['mantissa'] or match['times'] or 1}e-{exponent}"
        numbers.append(float(spelled))
        return f"\x01{len(numbers) - 1}\x02"

    parts = _SENTENCE_END.split(text.replace("\x01", "").replace("\x02", ""))
    joined = (re.sub(r"\s+", " ", part).strip() for part in parts)
    sentences = (
        part[start : start + _MAX_SENTENCE]
        for part in joined
        for start in range(0, max(1, len(part) - _OVERLAP), _MAX_SENTENCE - _OVERLAP)
    )
    return [_SMALL_NUMBER.sub(token, part) for part in sentences if part], numbers
