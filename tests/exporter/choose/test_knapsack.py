"""The choice of modules beside every other choice there is."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from exporter.choose.knapsack import choose_kept

SLACK = 1e-9  # of float64 sums


@st.composite
def problems(draw):
    """Error vectors of some modules, in few dimensions so that they cancel, and their bytes."""
    n, size = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    entries = st.lists(st.integers(-9, 9), min_size=size, max_size=size)
    vectors = [draw(entries) for _ in range(n)]
    return torch.tensor(vectors, dtype=torch.float64), draw(
        st.lists(st.integers(1, 50), min_size=n, max_size=n)
    )


def error_of(vectors, kept):
    left = [i for i in range(len(vectors)) if i not in kept]
    return float(vectors[left].sum(dim=0).norm())


def choices(n):
    for size in range(n + 1):
        yield from itertools.combinations(range(n), size)


@given(problems(), st.floats(0, 1.2))
def test_without_a_budget_the_target_is_met_at_a_price(problem, share):
    vectors, extra = problem
    gram, target = vectors @ vectors.T, share * float(vectors.sum(dim=0).norm())
    kept = choose_kept(gram, extra, target=target)
    assert len(set(kept)) == len(kept)
    assert error_of(vectors, kept) <= target + SLACK + 1e-6  # root of a sum that cancels
    price = sum(extra[i] for i in kept)
    meeting = [c for c in choices(len(extra)) if error_of(vectors, c) <= target + 1e-6]
    assert price >= min(sum(extra[i] for i in c) for c in meeting)
    for index in kept:  # nothing needless
        assert error_of(vectors, set(kept) - {index}) > target - SLACK


@given(problems(), st.integers(0, 200), st.floats(0, 1))
def test_a_budget_is_never_exceeded(problem, budget, share):
    vectors, extra = problem
    gram, target = vectors @ vectors.T, share * float(vectors.sum(dim=0).norm())
    kept = choose_kept(gram, extra, target=target, budget=budget)
    assert sum(extra[i] for i in kept) <= budget
    best = min(
        error_of(vectors, c) for c in choices(len(extra)) if sum(extra[i] for i in c) <= budget
    )
    found = error_of(vectors, kept)
    assert found >= best - SLACK
    if found > target + 1e-6:  # better than nothing, and no piece of it useless
        assert found <= error_of(vectors, ()) + SLACK
        for index in kept:
            assert error_of(vectors, set(kept) - {index}) > found - 1e-6


def test_errors_that_cancel_are_left_together():
    # alone, the first two are the largest; together they do nothing
    vectors = torch.tensor([[9.0, 0], [-9.0, 0], [0, 2.0]], dtype=torch.float64)
    assert choose_kept(vectors @ vectors.T, [1, 1, 1], target=1) == [2]
