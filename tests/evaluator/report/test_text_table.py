"""Tables for people: Markdown, and a choice of columns."""

from evaluator.report.text_table import TextTable


def test_markdown_escapes_bars():
    table = TextTable.of("T", [{"a": "1", "b": "x|y", "c": "3"}])
    assert table.markdown() == "## T\n\n| a | b | c |\n| --- | ---: | ---: |\n| 1 | x\\|y | 3 |\n"


def test_columns_are_chosen_by_name():
    table = TextTable("T", ("a", "b", "c"), (("1", "2", "3"),))
    assert table.select("S", ("c", "none", "a")).rows == (("3", "1"),)
