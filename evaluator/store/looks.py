"""Which problems each planned look at a run has seen.

Families come in the order of a digest of suite and name: a random one, as far as their results are
concerned, and chosen by nobody. So what is seen first is a fair sample of the rest.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

from evaluator.errors import ConfigError
from evaluator.statistics.looks import Look
from evaluator.store.records import Key
from evaluator.store.run_directory import RunFacts


@dataclass(frozen=True)
class PlannedLook:
    """One look: ids of the problems seen until then, and of those that came with it."""

    look: Look
    problems: frozenset[str]
    new: frozenset[str]

    @property
    def is_last(self) -> bool:
        """Whether the run ends here, whatever is found."""
        return self.look.number == len(self.look.times)


def planned_looks(facts: RunFacts) -> tuple[PlannedLook, ...]:
    """The looks of a run, at equal steps of its families; ConfigError where these are too few."""
    families: dict[tuple[str, str], list[str]] = {}
    for problem in facts.problems:
        key = ("", problem.id) if problem.family is None else ("family", problem.family)
        families.setdefault(key, []).append(problem.id)
    looks, count = facts.looks, len(families)
    if looks > count:
        raise ConfigError(
            f"equivalence.looks: {looks} looks need as many problems (or families of variants), "
            f"the suite has {count}"
        )
    order = sorted(families, key=lambda key: _digest(facts.suite_digest, *key))
    ends = [round(count * (k + 1) / looks) for k in range(looks)]
    squares = [sum(len(families[key]) ** 2 for key in order[:end]) for end in ends]
    times = tuple(square / squares[-1] for square in squares)  # a family counts as one unit
    seen = [frozenset(p for key in order[:end] for p in families[key]) for end in ends]
    return tuple(
        PlannedLook(Look(times, number), after, after - before)
        for number, (before, after) in enumerate(pairwise([frozenset(), *seen]), start=1)
    )


def complete_look(facts: RunFacts, records: Collection[Key]) -> PlannedLook | None:
    """The last look of all whose problems, arms and samples the records are there, if any."""
    there, wanted = records_by_problem(facts, records), len(facts.arms) * facts.samples
    missing = {problem.id for problem in facts.problems if there[problem.id] < wanted}
    looks = planned_looks(facts)
    return next((one for one in reversed(looks) if not one.problems & missing), None)


def records_by_problem(facts: RunFacts, records: Iterable[Key]) -> Counter[str]:
    """How many of the records are of arms and samples of the run."""
    arms, samples = {arm.name for arm in facts.arms}, range(facts.samples)
    return Counter(problem for arm, problem, n in records if arm in arms and n in samples)


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
