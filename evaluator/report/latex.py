r"""Tables as LaTeX: a ``table`` environment in booktabs form, to be read with ``\input``.

The text stays Unicode, but for signs that an 8-bit engine does not know. Chinese needs
``\usepackage{xeCJK}``; a comment in the file says so where there is any.
"""

import re
import unicodedata

import pandas as pd

from evaluator.report.text_table import TextTable

_COMMANDS = str.maketrans(
    {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    | {sign: f"\\{sign}" for sign in "{}$&#%_"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\ldots{}"}
    | {"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "δ": r"$\delta$", "∞": r"$\infty$"}
    | {"→": r"$\to$", "‖": r"$\Vert$", "–": "--", "—": "---", "\u00a0": "~"}
)
_WIDTH = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def latex_table(table: TextTable, label: str, made_by: str) -> str:
    """A table as LaTeX, captioned by its title and labelled ``tab:label``."""
    comments = [line.strip() for line in made_by.splitlines()]
    comments.append("Needs \\usepackage{booktabs}, and \\usepackage{graphicx} for \\resizebox.")
    cells = [table.title, *table.header, *(cell for row in table.rows for cell in row)]
    if any(unicodedata.east_asian_width(sign) in "WF" for cell in cells for sign in cell):
        comments.append("Holds Chinese: compile with XeLaTeX and \\usepackage{xeCJK}.")
    rows = [[_cell(text) for text in row] for row in table.rows]
    frame = pd.DataFrame(rows, columns=[_cell(text) for text in table.header])
    source: str = frame.style.hide(axis="index").to_latex(
        hrules=True,
        position_float="centering",
        caption=escape(table.title),
        label=f"tab:{label}",
        column_format="@{}l" + "r" * (len(table.header) - 1) + "@{}",
    )
    source = source.replace("\\begin{tabular}", f"{_WIDTH}\n\\begin{{tabular}}")
    source = source.replace("\\end{tabular}", "\\end{tabular}}")
    return "".join(f"% {comment}\n" for comment in comments) + source


def escape(text: str) -> str:
    r"""Text with every sign that means something to TeX made to stand for itself.

    >>> escape("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).translate(_COMMANDS)


def _cell(text: str) -> str:
    # A row that begins with [ or * would be read as the option of the \\ before it.
    return f"{{{escape(text)}}}" if text.startswith(("[", "*")) else escape(text)
