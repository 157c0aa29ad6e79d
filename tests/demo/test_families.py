"""The problem families: their programs, their slips and the split."""

import pytest

from demo.families import FAMILIES, Family
from demo.split import heldout_variants, only_heldout, train_variants

IDS = [family.key for family in FAMILIES]


def test_there_are_enough_families_and_names_are_unique() -> None:
    assert len(FAMILIES) >= 60
    assert len({family.key for family in FAMILIES}) == len(FAMILIES)
    assert len({family.title for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_every_slip_changes_the_program_and_nothing_is_left_to_fill_in(family: Family) -> None:
    p = family.variants()[-1]
    reference = family.program(p)
    assert family.slips()
    for slip in [{}, *family.slips()]:
        program = family.program(p, slip)
        assert not set("«»¦$") & set(program)
        assert program.count("{") == program.count("}")
        assert (program == reference) == (not slip)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_the_split_leaves_no_program_on_both_sides(family: Family) -> None:
    heldout = {family.program(p) for p in heldout_variants(family)}
    train = {family.program(p) for p in train_variants(family)}
    assert heldout and train
    assert len(heldout) + len(train) == len(family.variants())
    assert heldout.isdisjoint(train)


def test_some_families_are_kept_from_the_adapter() -> None:
    assert 10 <= sum(map(only_heldout, FAMILIES)) <= len(FAMILIES) // 4
