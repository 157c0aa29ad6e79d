"""Formulas: known ones as MathML, everything else as its source, nothing as markup of its own."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.report.html.statement import math_html

PIECES = [*"{}^_&<>'[]()1x题", "\\\\", "&lt;", r"\begin{cases}", r"\end{cases}", r"\text{"]
PIECES += [f"\\{name}" for name in ("frac", "sqrt", "left", "right", "binom", "overset", "limits")]
PIECES += [r"\href{javascript:x}", r"\style{color:red}", r"\hspace{9000em}", r"\color{red}"]


@pytest.mark.parametrize(
    ("latex", "parts"),
    [
        (r"1 \le a_i \le 10^9", ["<mo>≤</mo>", "<msub><mi>a</mi><mi>i</mi></msub>", "<msup>"]),
        (r"\frac{n(n-1)}{2}", ["<mfrac>"]),
        (r"\begin{cases}1<2\end{cases}", ["<mtable>", "<mo>&lt;</mo>"]),
        (r"\lfloor x \rfloor \bmod 7", ["⌊", "mod"]),
        (r"\text{若 a<b}", ["a&lt;b"]),
    ],
)
def test_formulas_of_statements_are_set(latex, parts):
    found = math_html(latex)
    assert found.startswith("<math") and all(part in found for part in parts)


@pytest.mark.parametrize("latex", [r"\foo x", r"\left(", "a^b^c", "{{{", r"\frac{1"])
def test_what_cannot_be_set_is_shown_as_its_source(latex):
    assert math_html(latex) == f'<code class="math">{latex}</code>'


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=120).map("".join))
def test_any_formula_is_well_formed_and_small(latex):
    found = math_html(latex[:500])
    elements = list(ElementTree.fromstring(found).iter())  # raises where a tag is open
    assert {e.tag[0] for e in elements} <= {"m", "c"}
    assert not {"href", "style", "class"} & {name for e in elements[1:] for name in e.attrib}
    assert len(found) < 20_000
