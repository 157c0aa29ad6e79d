"""A summary's numbers as text cells and as data frames."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from evaluator.report.summary import summarize
from evaluator.report.tables import (
    arms_frame,
    arms_table,
    delta_cosine,
    groups_frame,
    sensitivity_table,
    verdicts_table,
)
from evaluator.report.text_table import TextTable
from tests.evaluator.report.made_up import KINDS, PROBLEMS, facts, noisy, records, repeated


def test_one_row_an_arm_with_every_number():
    run = facts()
    frame = arms_frame(summarize(run, records(run))).set_index("arm")
    assert list(frame.index) == list(KINDS)
    assert frame.loc["base", "lost"] == 60
    assert frame.loc["base", "difference"] == pytest.approx(-0.3)
    assert frame.loc["base", "verdict"] == "differ"
    assert pd.isna(frame.loc["restored", "verdict"])
    assert (frame.loc["nf4", "verdict"], frame.loc["nf4", "informative"]) == ("match", True)
    assert frame.loc["nf4", "p_value"] == 1
    assert frame.loc["gone", "verdict"] == "differ"
    assert frame.loc["nf4", "capture"] == 0.5
    assert (frame["weight_bytes"] == 1_500_000).all()


def test_cells_of_an_arm_with_several_samples():
    run = facts(samples=4)
    summary = summarize(run, records(run))
    table = arms_table(summary)
    for one in (table, verdicts_table(summary)):
        assert {len(row) for row in one.rows} == {len(one.header)}
    assert {"pass@1", "pass@2", "pass@4"} <= set(table.header)
    row = dict(zip(table.header, table.rows[2], strict=True))
    assert (row["verdict"], row["gained / lost"]) == ("match", "+0 / −0")
    assert (row["size"], row["capture"]) == ("1.50 MB", "0.500")


def test_groups_add_up():
    run = facts()
    summary = summarize(run, records(run))
    frame = groups_frame(summary)
    for by in ("language", "family"):
        part = frame[frame["by"] == by]
        assert part["problems"].sum() == PROBLEMS
        weighted = (part["problems"] * part["passed_restored"]).sum() / PROBLEMS
        assert weighted == pytest.approx(0.6)


@pytest.mark.parametrize(
    "run", [repeated(others=2), repeated(seed=None, batch_size=3)], ids=["independent", "paired"]
)
def test_flips_beside_those_of_a_repeat(run):
    table = sensitivity_table(summarize(run, records(run, noisy)))
    beside = table.header.index("flips / A/A")
    assert [row[beside] for row in table.rows] == ["1.00", "3.00", "0.15"]
    arms = arms_table(summarize(run, records(run, noisy)))
    assert arms.rows[1][arms.header.index("verdict")] == "A/A: match"


def test_markdown_keeps_its_rows_and_columns_are_chosen_by_name():
    table = TextTable.of("T", [{"a": "1", "b": "x|y", "c": "3\n4"}])
    assert table.markdown() == "## T\n\n| a | b | c |\n| --- | ---: | ---: |\n| 1 | x\\|y | 3 4 |\n"
    assert table.select("S", ("c", "none", "a")).rows == (("3\n4", "1"),)


@pytest.mark.parametrize("kept", [1.0, 0.4, 0.0])
def test_cosine_is_that_of_the_exported_and_the_trained_delta(kept):
    rng = np.random.default_rng(0)
    trained = rng.standard_normal(1000)
    exported = kept * trained + 0.3 * rng.standard_normal(1000)
    capture = exported @ trained / (trained @ trained)
    residual = np.linalg.norm(exported - trained) / np.linalg.norm(trained)
    arm = dataclasses.replace(facts().arms[2], capture=capture, residual=residual)
    expected = exported @ trained / np.linalg.norm(exported) / np.linalg.norm(trained)
    assert delta_cosine(arm) == pytest.approx(expected, abs=1e-12)


def test_a_delta_that_changed_nothing_has_no_cosine():
    arm = facts().arms[2]
    assert delta_cosine(dataclasses.replace(arm, capture=0.0, residual=1.0)) is None
    assert delta_cosine(arm) is None  # its residual is unknown
    assert delta_cosine(dataclasses.replace(arm, capture=1.0, residual=0.0)) == 1
