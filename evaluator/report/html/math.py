r"""Formulas of problem statements as MathML, which browsers set themselves.

latex2mathml's own text output holds what a statement wrote unescaped, so its tree is used, with
attributes of layout only. What cannot be read is shown as its LaTeX source.
"""

import html
import re
from xml.etree.ElementTree import tostring

from latex2mathml.converter import convert_to_element
from markupsafe import Markup

from evaluator.report.html.text import visible

_ATTRIBUTES = frozenset(
    ("accent", "columnalign", "display", "displaystyle", "fence", "form", "linebreak")
    + ("linethickness", "mathvariant", "maxsize", "minsize", "movablelimits", "separator")
    + ("stretchy", "width")
)
_CHILDREN = dict.fromkeys(("mfrac", "mroot", "msub", "msup", "munder", "mover"), 2)
_CHILDREN |= {"msubsup": 3, "munderover": 3}
_VALUE = re.compile(r"[a-z-]{1,20}|\d(\.\d+)?(em)?")


def math_html(latex: str) -> Markup:
    r"""Set a formula without its dollar signs, or show its source; the caller bounds its length.

    Example:
        >>> math_html(r"a \le 9")
        Markup('<math display="inline"><mrow><mi>a</mi><mo>≤</mo><mn>9</mn></mrow></math>')
        >>> math_html(r"\frac{1")
        Markup('<code class="math">\\frac{1</code>')
    """
    try:
        tree = convert_to_element(latex)
        for element in tree.iter():
            element.text = visible(html.unescape(element.text or ""))
            whole = len(element) == _CHILDREN.get(element.tag, len(element))
            if "\\" in element.text or not whole:
                raise ValueError("an unknown command, or a missing argument")
            for name, value in list(element.attrib.items()):
                if name not in _ATTRIBUTES or not _VALUE.fullmatch(value):
                    del element.attrib[name]
        return Markup(tostring(tree, encoding="unicode"))  # noqa: S704 - escaped by ElementTree
    except Exception:  # the library lets IndexError and others through for broken LaTeX
        return Markup('<code class="math">{}</code>').format(latex)
