"""LaTeX tables: balanced, escaped, and compiled where there is a compiler."""

import re

from hypothesis import given
from hypothesis import strategies as st

from evaluator.report.latex import escape, latex_table
from evaluator.report.text_table import TextTable

HOSTILE = TextTable(
    "a_b & 50 % of {x} #1 $y$ \\end{table}",
    ("arm", "gained / lost", "difference [95 %]"),
    (
        ("nf4_mixed", "+0 / −3", "−0.4 [−1.0, 0.1]"),
        ("[x]", "~^<>|…", "±∞ × δ → ‖"),
        ("*", "\\input{/etc/passwd}", 'a"b\nc'),
    ),
)


def test_table_in_booktabs_form():
    text = latex_table(HOSTILE, "arms", "Made by `x`.  \nMachine: y.\n")
    lines = text.splitlines()
    assert lines[:2] == ["% Made by `x`.", "% Machine: y."]
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == 1
        assert len(re.findall(rf"(?<!textbackslash\{{\}})\\end\{{{name}\}}", text)) == 1
    rules = [line for line in lines if line.endswith("rule")]
    assert rules == ["\\toprule", "\\midrule", "\\bottomrule"]
    assert "\\label{tab:arms}" in text
    assert "\\begin{tabular}{@{}lrr@{}}" in text
    rows = [line for line in lines if line.endswith(" \\\\")]
    assert len(rows) == 1 + len(HOSTILE.rows)
    assert all(len(re.findall(r"(?<!\\)&", row)) == 2 for row in rows)
    assert rows[2].startswith("{[x]}") and rows[3].startswith("{*}")
    assert "\\input" not in text


def test_chinese_is_kept_and_announced():
    text = latex_table(TextTable("结果", ("arm",), (("题目",),)), "arms", "")
    assert "题目" in text and "xeCJK" in text
    assert "xeCJK" not in latex_table(HOSTILE, "arms", "")


@given(st.text(alphabet="\\{}$&#%_^~<>|[*a é−–×δ题\n\x00"))
def test_escaped_text_is_balanced_and_means_only_itself(text):
    found = escape(text)
    bare = re.sub(r"\\[{}$&#%_]|\\text[a-z]+\{\}|\\ldots\{\}|\$-\$|\$\\[A-Za-z]+\$", "", found)
    assert not set(bare) & set("\\{}$&#%_^<>|")
    assert not re.search(r"[\x00-\x1f\x7f]", found)
