"""Untrusted texts on their way into a page: bounded, and with nothing in them that hides.

The templates escape; here characters that HTML cannot hold or that change how their neighbours look
are spelled out.
"""

import re

# C0 but tab and newline, DEL, C1; marks and overrides of direction; what no UTF-8 file may hold.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Spell out what a page cannot hold or would hide; line ends become ``\n``.

    Example:
        >>> visible("a\0b\r\n\u202ec\udcff")
        'a␀b\n⟨U+202E⟩c⟨U+DCFF⟩'
    """
    return _HIDDEN.sub(_spelled, text.replace("\r\n", "\n"))


def shortened(text: str, characters: int, lines: int | None = None) -> str:
    r"""The beginning of a text, with a last line that says what was left out.

    Example:
        >>> shortened("abcdef", 4)
        'abcd\n[… 2 more characters, left out here]'
    """
    kept = text[:characters]
    if lines is not None:
        # maxsplit bounds the work and keeps the rest in one piece
        kept = "\n".join(kept.split("\n", lines)[:lines])
    missing = len(text) - len(kept)
    if not text[len(kept) :].strip():
        return kept
    return f"{kept}\n[… {missing:,} more characters, left out here]"


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"
