r"""Tables as LaTeX: a ``table`` environment in booktabs form, to be read with ``\input``.

The text stays Unicode, for any engine that reads UTF-8. The few signs that an 8-bit engine does
not know are written as commands. Chinese is left as it is and needs ``\usepackage{xeCJK}`` under
XeLaTeX or LuaLaTeX; a comment in the file says so where there is any.
"""

import re
import unicodedata

from evaluator.report.tables import TextTable

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "±": r"$\pm$",
    "δ": r"$\delta$",
    "∞": r"$\infty$",
    "→": r"$\to$",
    "‖": r"$\Vert$",
    "…": r"\ldots{}",
    "\u00a0": "~",
}


def latex_table(table: TextTable, label: str, made_by: str) -> str:
    """A table as LaTeX source.

    Args:
        table: Its title becomes the caption; the first column is aligned left, the others right.
        label: What stands behind ``tab:``.
        made_by: The command and versions, which become comments.
    """
    columns = "l" + "r" * (len(table.header) - 1)
    rows = [_row(cells) for cells in table.rows]
    lines = [
        *(f"% {line.strip()}" for line in made_by.splitlines()),
        "% Needs \\usepackage{booktabs}, and \\usepackage{graphicx} for \\resizebox.",
        *(_cjk_comment(table)),
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape(table.title)}}}",
        f"\\label{{tab:{label}}}",
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        "\\toprule",
        _row(table.header),
        "\\midrule",
        *rows,
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    r"""Text with every sign that means something to TeX made to stand for itself.

    >>> escape("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return "".join(_COMMANDS.get(sign, sign) for sign in re.sub(r"[\x00-\x1f\x7f]", " ", text))


def _row(cells: tuple[str, ...]) -> str:
    # A row that begins with [ or * would be read as the option of the \\ before it.
    texts = [f"{{{escape(c)}}}" if c.startswith(("[", "*")) else escape(c) for c in cells]
    return " & ".join(texts) + r" \\"


def _cjk_comment(table: TextTable) -> list[str]:
    cells = (table.title, *table.header, *(cell for row in table.rows for cell in row))
    wide = any(unicodedata.east_asian_width(sign) in "WF" for cell in cells for sign in cell)
    return ["% Holds Chinese: compile with XeLaTeX and \\usepackage{xeCJK}."] if wide else []
