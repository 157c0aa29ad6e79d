"""Problem statements as HTML: Markdown with formulas, as Luogu and Codeforces write it.

Statements are untrusted: raw HTML is shown, not used; links and images stay their source.
"""

import functools
import html
import re
from xml.etree.ElementTree import tostring

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup

from evaluator.report.html.text import shortened, visible

_STATEMENT_CHARACTERS = 8_000
_MATH_CHARACTERS = 500
_MAX_NESTING = 12
_ATTRIBUTES = frozenset(
    ("accent", "columnalign", "display", "displaystyle", "fence", "form", "linebreak")
    + ("linethickness", "mathvariant", "maxsize", "minsize", "movablelimits", "separator")
    + ("stretchy", "width")
)
_CHILDREN = dict.fromkeys(("mfrac", "mroot", "msub", "msup", "munder", "mover"), 2)
_CHILDREN |= {"msubsup": 3, "munderover": 3}
_VALUE = re.compile(r"[a-z-]{1,20}|\d(\.\d+)?(em)?")


def statement_html(statement: str) -> Markup:
    r"""Render a statement, or its beginning where it is very long.

    Example:
        >>> statement_html("<b> $n$")
        Markup('<p>&lt;b&gt; <math display="inline"><mrow><mi>n</mi></mrow></math></p>\n')
    """
    text = visible(shortened(statement, _STATEMENT_CHARACTERS))
    tokens = _markdown().parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "h4" if token.tag in ("h1", "h2") else "h5"  # below the page's own
        elif token.type == "fence":
            token.info = ""
    # The renderer escapes all text; see the rules that are switched off below.
    return Markup(_markdown().renderer.render(tokens, _markdown().options, {}))  # noqa: S704


@functools.cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("js-default", {"html": False, "breaks": True, "maxNesting": _MAX_NESTING})
    markdown.disable(["link", "image", "autolink", "html_inline", "html_block", "reference"])
    markdown.inline.ruler.before("escape", "math", _math_rule)
    markdown.add_render_rule("math", _render_math)
    return markdown


def _math_rule(state: StateInline, silent: bool) -> bool:
    r"""Read ``$formula$`` or ``$$formula$$``: ``_`` and ``\`` in it are not Markdown."""
    if state.src[state.pos] != "$":
        return False
    mark = "$$" if state.src.startswith("$$", state.pos) else "$"
    start = state.pos + len(mark)
    end = state.src.find(mark, start, start + _MATH_CHARACTERS)
    while end > start and state.src[end - 1] == "\\":
        end = state.src.find(mark, end + 1, start + _MATH_CHARACTERS)
    if end <= start or end > state.posMax or not state.src[start:end].strip():
        return False
    if not silent:
        state.push("math", "", 0).content = state.src[start:end]
    state.pos = end + len(mark)
    return True


def _render_math(
    renderer: RendererProtocol, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    return str(math_html(tokens[index].content))


def math_html(latex: str) -> Markup:
    r"""Set a formula without its dollar signs as MathML, or show its source.

    latex2mathml's own text output is not escaped, so its tree is used, with attributes of layout.

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
