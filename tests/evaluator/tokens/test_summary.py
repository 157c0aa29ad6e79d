"""Numbers, table and sentences of the token level from made-up records; no model."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from evaluator.report.results import write_results
from evaluator.report.sentences import describe
from evaluator.report.summary import summarize
from evaluator.report.token_tables import token_table
from evaluator.store.records import GenerationRecord, TokenRecord, append, repeats
from evaluator.tokens.summary import retention_interval, summarize_tokens
from tests.evaluator.report import made_up

FLOOR = 1e-13
KINDS = {"base": "base", "restored": "restored", "again": "restored", "nf4": "merged"}
AGAIN, FOLDED, COMPUTED = repeats("restored")
# KL of an arm's tokens, as a multiple of the base's
SIZES = {"base": 1.0, AGAIN: FLOOR / 9, FOLDED: FLOOR, COMPUTED: 0.0, "again": 0.0, "nf4": 0.7}


def facts(kinds=KINDS, seeds=None, **decoding):
    run = made_up.facts(kinds=kinds)
    arms = [{"name": n, "kind": k, "seed": (seeds or {}).get(n)} for n, k in kinds.items()]
    decoding = {"samples": 1, "seed": 3, "temperature": 0.8, **decoding}
    return dataclasses.replace(run, config={**run.config, "arms": arms, "decoding": decoding})


def token_records(sizes=SIZES, texts=20, same=9):
    """Records of ten tokens a text; the base's KL of text i are i + 1, …, i + 10."""
    made = {}
    for arm, size in sizes.items():
        for i in range(texts):
            kl = tuple(size * (i + k) for k in range(1, 11))
            made[arm, f"P{i}", 0] = TokenRecord(arm, f"P{i}", 0, f"{i:064}", same, kl)
    return made


def texts_of(texts):
    return {
        (arm, f"P{i}", 0): GenerationRecord(arm, f"P{i}", 0, text, 1, "stop", 0.0)
        for arm, own in texts.items()
        for i, text in enumerate(own)
    }


def test_shifts_are_averaged_over_positions():
    records = token_records()
    for i in range(20):
        key = ("nf4", f"P{i}", 0)
        shifts = {"shift_cosine": (0.1 * (i % 2),) * 10, "shift_signs": i / 20}
        records[key] = dataclasses.replace(records[key], **shifts)
    level = summarize_tokens(facts(), records, {})
    shift = level.arm("nf4").shift
    assert shift.cosine == pytest.approx(0.05) and shift.median_cosine == pytest.approx(0.05)
    assert shift.same_sign == pytest.approx(0.475)
    assert "cosine of 0.05 (median 0.05), 47.5 % of them" in "".join(describe(summary_of(level)))
    table = token_table(summary_of(level))
    assert table.rows[-1][table.header.index("shift cosine")] == "0.050"
    assert summarize_tokens(facts(), token_records(), {}).arm("nf4").shift is None


def summary_of(level, run=None):
    run = run or facts()
    return summarize(run, made_up.records(run), level)


def test_numbers_of_every_arm():
    level = summarize_tokens(facts(), token_records(), {})
    base = np.array([i + k for i in range(20) for k in range(1, 11)], dtype=float)
    for name, size in SIZES.items():
        arm = level.arm(name)
        assert arm.kl.tokens == 200
        assert arm.kl.mean == pytest.approx(size * base.mean())
        assert arm.kl.p50 == pytest.approx(size * np.median(base))
        assert arm.kl.p99 == pytest.approx(size * np.quantile(base, 0.99))
        assert arm.kl.largest == pytest.approx(size * base.max())
        assert arm.top1_agreement == 0.9
    assert level.texts == 20 and level.effect == base.mean() and level.visible
    assert level.floor == level.arm(FOLDED).kl.mean
    assert level.arm("nf4").kept.retention == pytest.approx(0.3)
    assert level.arm("nf4").kept.loss_seen and level.arm("base").kept.retention == 0
    assert {level.arm(name).kept for name in (*repeats("restored"), "again")} == {None}
    # every text has the same ratio, so nothing is uncertain
    assert level.arm("nf4").interval95.high == pytest.approx(level.arm("nf4").interval95.low)
    assert [arm.arm for arm in level.arms if arm.repeat] == [AGAIN, FOLDED, COMPUTED, "again"]


def test_the_floor_is_the_largest_of_other_batches_and_folded_weights():
    for name in (AGAIN, FOLDED):
        level = level_of({name: 0.1})
        assert level.floor == level.arm(name).kl.mean
    run = facts()
    other = dataclasses.replace(run.arms[2], artifact_digest="another")
    run = dataclasses.replace(run, arms=(*run.arms[:2], other, run.arms[3]))
    level = summarize_tokens(run, token_records({**SIZES, "again": 0.1}), {})
    assert level.arm("again").kept.retention == pytest.approx(0.9)


@pytest.mark.parametrize("floor", [0.25, 1.0])  # √KL of equal models may differ by 2 √floor
def test_an_effect_within_the_floor_has_no_retention(floor):
    level = level_of({FOLDED: floor})
    assert not level.visible and {arm.kept for arm in level.arms} == {None}
    assert "cannot be seen" in token_table(summary_of(level)).markdown()
    assert "has a retention" not in said_of({FOLDED: floor})


def test_what_is_within_the_floor_of_the_reference_is_a_bound_and_no_loss():
    level = level_of({FOLDED: 1e-4, "nf4": 4e-4})
    kept = level.arm("nf4").kept
    assert not kept.loss_seen and level.arm("nf4").interval95 is None
    assert kept.at_least == pytest.approx(1 - (0.04 / 0.98) ** 2)  # 2 √1e-4 on either side
    row = token_table(summary_of(level)).rows[-1]
    assert "≥ 0.9983" in row and "≥ 0.959" in row
    assert level_of({FOLDED: 1e-4, "nf4": 4.1e-4}).arm("nf4").kept.loss_seen


def said_of(sizes):
    """The report's sentences where these arms have other sizes."""
    return "\n".join(describe(summary_of(level_of(sizes))))


def level_of(sizes):
    return summarize_tokens(facts(), token_records({**SIZES, **sizes}), {})


def test_a_run_whose_arithmetic_hides_the_adapter_says_so():
    for size, said in ((1.5, True), (0.5, False)):
        assert ("show rounding rather than the adapter" in said_of({COMPUTED: size})) is said


@pytest.mark.parametrize(
    ("sizes", "sentences"),
    [
        (
            {FOLDED: 1.0},
            ["is too near the 15 by which other arithmetic", "It cannot be seen on these tokens"],
        ),
        (
            {"again": 1e-14},
            [
                "on 200 predictions in 20 completions of restored",
                "moves by a mean KL of 15 nats",
                "nf4 has a retention of 30.00 % (95 % interval 30.00 to 30.00) on the",
                "as if 16.33 % of the adapter's change had been kept",  # 1 − √0.7
                "its square.",
                "again is restored again (A/A)",
            ],
        ),
        (
            {"nf4": FLOOR},
            ["nf4 cannot be told from restored by its", "At most 9e-11 % of the adapter's effect"],
        ),
        ({"nf4": 1.5}, ["farther from restored than the base's are: retention −0.5000"]),
    ],
    ids=["below the floor", "seen", "at the floor", "beyond the base"],
)
def test_sentences(sizes, sentences):
    text = said_of(sizes)
    assert [sentence for sentence in sentences if sentence not in text] == []


def test_without_base_or_reference():
    kinds = {name: kind for name, kind in KINDS.items() if name != "base"}
    sizes = {name: size for name, size in SIZES.items() if name != "base"}
    run = facts(kinds)
    level = summarize_tokens(run, token_records(sizes), {})
    assert level.effect is None and level.arm("nf4").kept is None
    text = "\n".join(describe(summary_of(level, run)))
    assert "no retention can be given" in text and "nf4's predictions lie a mean KL of" in text
    table = token_table(summary_of(level, run))
    assert {row[table.header.index("retention [95 %]")] for row in table.rows} == {""}
    assert summarize_tokens(facts({"nf4": "merged"}), {}, {}) is None


def test_arms_that_are_not_finished_are_named_and_left_out():
    records = token_records()
    del records["nf4", "P7", 0]
    stale = ("again", "P0", 0)
    records[stale] = dataclasses.replace(records[stale], tokens_sha256="f" * 64)
    level = summarize_tokens(facts(), records, {})
    assert level.unfinished == ("again", "nf4")
    assert [arm.arm for arm in level.arms] == [*repeats("restored"), "base"]
    text = "\n".join(describe(summary_of(level)))
    assert "The token level is not finished for again, nf4" in text


def test_the_interval_covers_the_ratio_of_the_population():
    """Texts of skewed size whose ratios scatter around 0.4; the share of intervals that hold it."""
    random, hits, rounds = np.random.default_rng(0), 0, 1000
    for _ in range(rounds):
        base = random.lognormal(sigma=1.0, size=60)
        interval = retention_interval(base * 0.4 * random.gamma(4, 1 / 4, size=60), base)
        hits += interval.low <= 0.6 <= interval.high
    assert 0.91 <= hits / rounds <= 0.96


def test_an_interval_needs_two_texts_with_an_effect_and_ends_at_1():
    one, two = np.array([1.0]), np.array([1.0, 2.0])
    assert retention_interval(one, one) is None
    assert retention_interval(two, np.array([0.0, 1.0])) is None
    # by hand: ratios without a text 0/2 and 0.1/1, mean 0.05, var 0.5 · 2 · 0.05², t of 1 df 12.706
    found = retention_interval(np.array([0.1, 0.0]), two)
    assert found.high == 1.0
    assert found.low == pytest.approx(1 - 0.1 / 3 - 12.7062 * 0.05, abs=1e-5)


def test_where_texts_part():
    texts = {
        "restored": ["int main() {}", "same", "ab", "x"],
        "base": ["int mine() {}", "same", "abc", "y"],
        "nf4": ["int main() {}", "same", "ab", "x"],
    }
    run = facts(seeds={"nf4": 0})
    level = summarize_tokens(run, {}, texts_of(texts))
    base, nf4 = level.divergence("base"), level.divergence("nf4")
    assert (base.texts, base.identical, base.first_difference) == (4, 0.25, 2.0)  # of 5, 2, 0
    assert (nf4.identical, nf4.first_difference) == (1.0, None)
    assert base.same_noise and not nf4.same_noise
    greedy = summarize_tokens(facts(seeds={"nf4": 0}, temperature=0.0), {}, texts_of(texts))
    assert greedy.divergence("nf4").same_noise
    table = token_table(summary_of(level))
    assert table.header == ("arm", "equal texts", "first difference")
    assert table.rows[0] == ("base", "25.0 %", "character 2")
    assert table.rows[3] == ("nf4", "100.0 % (other noise)", "")


def test_files_and_cells(tmp_path):
    run, texts = facts(), {"restored": ["ab"], "base": ["ac"], "nf4": ["ab"]}
    directory = made_up.begun(tmp_path, run)
    append(directory.token_level, list(token_records().values()))
    append(directory.generations, list(texts_of(texts).values()))
    table = token_table(write_results(directory).summary)
    frame = pd.read_csv(directory.tables / "token_level.csv").set_index("arm")
    assert list(frame.index) == ["base", *repeats("restored"), "again", "nf4"]
    assert frame.loc["nf4", "retention"] == pytest.approx(0.3)
    assert frame.loc["base", ["kl_mean", "first_difference_characters"]].tolist() == [15, 1]
    assert pd.isna(frame.loc[AGAIN, "identical_texts"])
    comparison = json.loads((tmp_path / "comparison.json").read_text())["token_level"]
    assert comparison["arms"][-1]["kept"]["retention"] == pytest.approx(0.3)
    assert table.markdown() in (tmp_path / "report.md").read_text()
    row = dict(zip(table.header, table.rows[-1], strict=True))
    assert row["retention [95 %]"] == "0.3000 [0.3000, 0.3000]"
    assert row["top-1"] == "90.00 %" and row["equal texts"] == "100.0 %"
    assert table.rows[1][0] == "restored (again)"
