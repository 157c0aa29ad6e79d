r"""The formulas of problem statements as plain HTML: ``$1 \le n \le 10^5$`` reads 1 ≤ n ≤ 10⁵.

What statements use is small: relations, indices, powers, dots, fractions, words. That subset is
set with ``<i>``, ``<sub>`` and ``<sup>``. A formula with anything else in it is shown as its TeX
source, so nothing is ever set wrongly.
"""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\s+|[0-9.]+|.", re.DOTALL)
_MAX_DEPTH = 12

_RELATIONS = {
    **{name: "≤" for name in ("le", "leq", "leqslant", "leqq")},
    **{name: "≥" for name in ("ge", "geq", "geqslant", "geqq")},
    **{"ne": "≠", "neq": "≠", "lt": "<", "gt": ">", "approx": "≈", "equiv": "≡", "sim": "∼"},
    **{"in": "∈", "notin": "∉", "subset": "⊂", "subseteq": "⊆", "to": "→", "rightarrow": "→"},
    **{"gets": "←", "leftarrow": "←", "Rightarrow": "⇒", "mid": "∣", "nmid": "∤", "ll": "≪"},
    **{"gg": "≫", "times": "×", "div": "÷", "pm": "±", "cdot": "·", "oplus": "⊕", "cup": "∪"},
    **{"cap": "∩", "land": "∧", "lor": "∨", "wedge": "∧", "vee": "∨", "leftrightarrow": "↔"},
    **{"bmod": "mod", "&": " "},
}
_SYMBOLS = {
    **{"ldots": "…", "dots": "…", "cdots": "⋯", "vdots": "⋮", "infty": "∞", "sum": "∑"},
    **{"prod": "∏", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "vert": "|"},
    **{"lvert": "|", "rvert": "|", "Vert": "‖", "lbrace": "{", "rbrace": "}", "langle": "⟨"},
    **{"rangle": "⟩", "emptyset": "∅", "varnothing": "∅", "forall": "∀", "exists": "∃"},
    **{"neg": "¬", "lnot": "¬", "prime": "′", "circ": "∘", "star": "⋆", "ast": "∗", "colon": ":"},
    **{"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "Delta": "Δ", "epsilon": "ε"},
    **{"varepsilon": "ε", "theta": "θ", "lambda": "λ", "mu": "μ", "pi": "π", "sigma": "σ"},
    **{"Sigma": "Σ", "phi": "φ", "varphi": "φ", "omega": "ω", "Omega": "Ω"},
    **{
        "{": "{",
        "}": "}",
        "%": "%",
        "$": "$",
        "#": "#",
        "_": "_",
        "|": "‖",
        "left": "",
        "right": "",
    },
    **{",": "\u2009", ";": "\u2009", ":": "\u2009", "!": "", " ": " ", "quad": " ", "qquad": " "},
    **{"\\": " ", "limits": "", "displaystyle": "", "rm": "", "tt": "", "bf": "", "it": ""},
    **{
        "big": "",
        "Big": "",
        "bigl": "",
        "bigr": "",
        "nolimits": "",
        "textstyle": "",
        "newline": " ",
    },
}
_FUNCTIONS = frozenset(
    ("max", "min", "gcd", "lcm", "log", "lg", "ln", "exp", "sin", "cos", "tan", "Pr")
)
_WORDS = frozenset(
    ("text", "mathrm", "textrm", "textbf", "mathbf", "texttt", "mathtt", "textit", "mathit")
    + ("textsf", "mathsf", "mathcal", "mathbb", "operatorname", "mbox")
)


class _NotPlainError(Exception):
    """The formula uses more than this file knows."""


def math_html(tex: str) -> Markup:
    r"""Set a formula, or show its source.

    Args:
        tex: The formula without its dollar signs.

    Example:
        >>> math_html(r"a_i \le 10^{9}")
        Markup('<span class="math"><i>a</i><sub><i>i</i></sub> ≤ 10<sup>9</sup></span>')
        >>> math_html(r"\begin{cases}1<2\end{cases}")
        Markup('<code class="math">\\begin{cases}1&lt;2\\end{cases}</code>')
    """
    tokens = iter(_TOKEN.findall(tex))
    try:
        return Markup('<span class="math">{}</span>').format(_sequence(tokens, 0, closing=None))
    except (_NotPlainError, StopIteration):
        return Markup('<code class="math">{}</code>').format(tex)


def _sequence(tokens: Iterator[str], depth: int, closing: str | None) -> Markup:
    """Everything up to the closing token, or to the end."""
    if depth > _MAX_DEPTH:
        raise _NotPlainError
    parts: list[Markup | str] = []
    for token in tokens:
        if token == closing:
            return Markup("").join(parts)
        parts.append(_one(token, tokens, depth))
    if closing is not None:
        raise _NotPlainError
    return Markup("").join(parts)


def _one(token: str, tokens: Iterator[str], depth: int) -> Markup | str:
    """What one token, with the arguments that it takes, looks like."""
    if token.startswith("\\"):
        return _command(token[1:], tokens, depth)
    if token == "{":
        return _sequence(tokens, depth + 1, "}")
    if token in ("^", "_"):
        tag = "sup" if token == "^" else "sub"
        return Markup(f"<{tag}>{{}}</{tag}>").format(_argument(tokens, depth))
    if token in "}#%":
        raise _NotPlainError
    if token.isspace():
        return ""
    if token in "=<>+-*/&":
        return f" {'−' if token == '-' else token} "
    if token in "~":
        return " "
    return Markup("<i>{}</i>").format(token) if token.isascii() and token.isalpha() else token


def _command(name: str, tokens: Iterator[str], depth: int) -> Markup | str:
    if name in _RELATIONS:
        return f" {_RELATIONS[name]} "
    if name in _SYMBOLS:
        return _SYMBOLS[name]
    if name in _FUNCTIONS:
        return f"{name} "
    if name.rstrip("*") in _WORDS:
        return _word(tokens)
    if name in ("frac", "dfrac", "tfrac"):
        top, bottom = _argument(tokens, depth), _argument(tokens, depth)
        return Markup("{}/{}").format(_bracketed(top), _bracketed(bottom))
    if name == "sqrt":
        return Markup("√{}").format(_bracketed(_argument(tokens, depth)))
    if name in ("bar", "overline", "underline", "hat", "vec"):
        line = "underline" if name == "underline" else "overline"
        return Markup('<span class="{}">{}</span>').format(line, _argument(tokens, depth))
    if name == "pmod":
        return Markup(" (mod {})").format(_argument(tokens, depth))
    raise _NotPlainError


def _argument(tokens: Iterator[str], depth: int) -> Markup:
    """The next group, or the next token alone."""
    token = next(t for t in tokens if not t.isspace())
    if token[0].isdigit() and len(token) > 1:
        # 10^23 means 10²3 in TeX; nobody means it, so leave such a formula as it was written
        raise _NotPlainError
    return escape(_one(token, tokens, depth + 1))


def _word(tokens: Iterator[str]) -> str:
    """The text of a group, as it stands there."""
    if next(t for t in tokens if not t.isspace()) != "{":
        raise _NotPlainError
    parts: list[str] = []
    for token in tokens:
        if token == "}":
            return "".join(parts)
        if token in "{$" or (token[0] == "\\" and token[1:] not in _SYMBOLS):
            raise _NotPlainError
        parts.append(_SYMBOLS[token[1:]] if token[0] == "\\" else token)
    raise _NotPlainError


def _bracketed(part: Markup) -> Markup:
    """Brackets around what is more than a number or a letter."""
    return part if len(part.striptags()) <= 1 or part.isdigit() else Markup("({})").format(part)
