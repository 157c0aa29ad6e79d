"""A table for people, as text cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class TextTable:
    """A table for people; the first column is aligned left, the others right."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, title: str, rows: Sequence[Mapping[str, str]]) -> Self:
        """A table of at least one row, each with the same columns in the same order."""
        return cls(title, tuple(rows[0]), tuple(tuple(row.values()) for row in rows))

    def markdown(self) -> str:
        """The table as Markdown, with its title as a heading."""
        ruler = ("---", *("---:" for _ in self.header[1:]))
        lines = [_line(self.header), _line(ruler), *(_line(row) for row in self.rows)]
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"

    def select(self, title: str, columns: Sequence[str]) -> "TextTable":
        """The columns of these names, for a narrow screen; names that are absent are skipped."""
        places = [self.header.index(name) for name in columns if name in self.header]
        rows = tuple(tuple(row[i] for i in places) for row in self.rows)
        return TextTable(title, tuple(self.header[i] for i in places), rows)


def _line(cells: Sequence[str]) -> str:
    texts = (" ".join(cell.splitlines()).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(texts) + " |"
