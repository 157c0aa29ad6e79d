"""Finds problems whose statements are nearly the same text.

Near copies are passed or failed together, so they are no independent evidence. Where a suite names
no families, this is how a user learns that it has some. Two statements are near copies where the
sets of their runs of five characters have a Jaccard similarity of at least 0.7; numbers, case and
white space do not count. Candidates come from MinHash signatures cut into bands (Broder 1997;
Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3), so the work does not grow
with the square of the number of problems.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from evaluator.suites.problem import Problem

Numbers = npt.NDArray[np.uint64]

_SIMILAR = 0.7
_RUN = 5
_BANDS, _ROWS = 40, 3  # finds a pair of similarity 0.7 with a chance above 1 − 10⁻⁷
_PRIME = np.uint64((1 << 31) - 1)
_LONGEST = 20_000  # characters of a statement that are looked at
_MOST_IN_A_BAND = 50  # of one signature, who are compared with each other


def copies_without_family(problems: Sequence[Problem]) -> tuple[tuple[str, ...], ...]:
    """Ids of near copies among the problems that no family holds, by group."""
    lone = [problem for problem in problems if problem.family is None]
    groups = near_copies([problem.statement for problem in lone])
    return tuple(tuple(lone[k].id for k in group) for group in groups)


def near_copies(statements: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Groups of near copies, each of two or more places in ``statements``, ascending.

    A group holds whoever is similar to one of its members.
    """
    runs = [_runs(text) for text in statements]
    leader = list(range(len(runs)))

    def find(k: int) -> int:
        while leader[k] != k:
            leader[k] = k = leader[leader[k]]
        return k

    for a, b in _candidates(runs):
        if find(a) != find(b) and _are_similar(runs[a], runs[b]):
            leader[find(b)] = find(a)
    groups = defaultdict(list)
    for k in range(len(runs)):
        groups[find(k)].append(k)
    return tuple(sorted(tuple(group) for group in groups.values() if len(group) > 1))


def _runs(text: str) -> Numbers:
    """The distinct runs of five characters, each as a number."""
    plain = re.sub(r"\d+", "0", unicodedata.normalize("NFKC", text[:_LONGEST]).casefold())
    plain = re.sub(r"\s+", " ", plain).strip().ljust(_RUN)
    characters = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    digits = np.uint64(0x9E3779B97F4A7C15) ** np.arange(_RUN, dtype=np.uint64)  # wraps around
    windows = np.lib.stride_tricks.sliding_window_view(characters.astype(np.uint64), _RUN)
    return np.unique((windows * digits).sum(axis=1) % _PRIME)


def _are_similar(one: Numbers, other: Numbers) -> bool:
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both >= _SIMILAR * (len(one) + len(other) - both)


def _candidates(runs: Sequence[Numbers]) -> Iterable[tuple[int, int]]:
    """Pairs that share a band of their signatures."""
    rng = np.random.default_rng(0)
    times = rng.integers(1, int(_PRIME), _BANDS * _ROWS, dtype=np.uint64)
    plus = rng.integers(0, int(_PRIME), _BANDS * _ROWS, dtype=np.uint64)
    bands: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for k, some in enumerate(runs):
        signature = ((some[:, None] * times + plus) % _PRIME).min(axis=0)
        for band, rows in enumerate(signature.reshape(_BANDS, _ROWS)):
            bands[band, rows.tobytes()].append(k)
    for alike in bands.values():
        yield from combinations(alike[:_MOST_IN_A_BAND], 2)
        # of a large group of copies it is enough to compare the rest with one
        yield from ((alike[0], other) for other in alike[_MOST_IN_A_BAND:])
