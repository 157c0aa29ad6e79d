"""From verdict records to numbers by arm and problem.

A problem on which the judge itself failed (UKE), in any arm, is left out of every arm's numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluator.errors import RecordsError
from evaluator.statistics.compare import Equivalence, PairedComparison, compare_arms
from evaluator.statistics.families import Families
from evaluator.statistics.looks import ONLY_LOOK, Look
from evaluator.statistics.proportions import pass_at_k, pass_at_k_interval
from evaluator.statistics.score_interval import Interval
from evaluator.store.looks import complete_look, planned_looks, records_by_problem
from evaluator.store.records import VERDICTS, Key, VerdictRecord
from evaluator.store.run_directory import ArmFacts, ProblemFacts, RunFacts
from evaluator.tokens.summary import TokenLevel


@dataclass(frozen=True)
class ArmSummary:
    """One arm's numbers over the problems that count; intervals are of 95 %, families as units.

    Attributes:
        passes: bool [m, n]: all tests of the program are AC.
        interval: Of the pass rate.
        pass_at: Unbiased pass@k by k.
        compile_rate: Share of completions that gave a program that compiled.
        choice_rate: Share in which one of several programs or parts of them had to be chosen.
        mean_score: 0 … 100.
        verdicts: Completions by verdict, over all problems, UKE too.
    """

    facts: ArmFacts
    passes: npt.NDArray[np.bool_]
    interval: Interval
    pass_at: Mapping[int, float]
    pass_at_interval: Mapping[int, Interval]
    compile_rate: float
    no_code_rate: float
    choice_rate: float
    mean_score: float
    verdicts: Mapping[str, int]

    @property
    def pass_rate(self) -> float:
        """pass@1."""
        return float(self.passes.mean())


@dataclass(frozen=True)
class RunSummary:
    """A whole run's numbers, arms in the configuration's order.

    Attributes:
        problems: The m problems that count, in the suite's order.
        families: Of these problems.
        unjudged: Ids of the others.
        comparisons: Each other arm against the reference; empty without a restored arm.
        repeats: Names of the A/A arms: the reference's model and artifact once more.
        look: The last planned look that is complete; all numbers are those of its problems.
        planned: How many problems the last look would have.
    """

    facts: RunFacts
    problems: tuple[ProblemFacts, ...]
    families: Families
    unjudged: tuple[str, ...]
    arms: tuple[ArmSummary, ...]
    comparisons: tuple[PairedComparison, ...]
    reference: str | None
    control: str | None
    repeats: tuple[str, ...]
    token_level: TokenLevel | None = None
    plan: str | None = None
    look: Look = ONLY_LOOK
    planned: int = 0

    @property
    def decided(self) -> bool:
        """Whether every arm has a verdict that more problems need not make."""
        pairs = [pair for pair in self.comparisons if pair.arm not in self.repeats]
        undecided = [
            pair
            for pair in pairs
            if pair.verdict is Equivalence.INCONCLUSIVE
            or (pair.verdict is Equivalence.MATCH and pair.holds_jointly is False)
        ]
        return bool(pairs) and not undecided

    def is_candidate(self, pair: PairedComparison) -> bool:
        """Whether an arm is one to choose; control and repeats show effect and noise."""
        return pair.arm != self.control and pair.arm not in self.repeats

    def yardstick(self, pair: PairedComparison) -> PairedComparison | None:
        """The repeat that shows noise of the pair's own kind.

        For an arm that draws with the reference's noise that is a repeat in batches of its own,
        which flips by rounding alone; for one with other draws, a repeat with draws of its own.
        """
        paired = self.facts.same_noise(pair.arm, pair.reference)
        for other in self.comparisons:
            is_paired = self.facts.same_noise(other.arm, other.reference)
            is_noise = not is_paired or self.facts.other_batches(other.arm, other.reference)
            if other.arm in self.repeats and is_paired == paired and is_noise:
                return other
        return None

    def comparison(self, arm: str) -> PairedComparison | None:
        """The arm's comparison with the reference."""
        return next((pair for pair in self.comparisons if pair.arm == arm), None)


def summarize(
    facts: RunFacts,
    verdicts: Mapping[Key, VerdictRecord],
    token_level: TokenLevel | None = None,
    plan: str | None = None,
) -> RunSummary:
    """Compute everything that tables show; RecordsError where records or problems are missing."""
    planned = len(facts.problems)
    seen = complete_look(facts, verdicts.keys())
    if seen is None:
        raise _incomplete(facts, verdicts)
    facts = replace(facts, problems=tuple(p for p in facts.problems if p.id in seen.problems))
    verdicts = {key: one for key, one in verdicts.items() if one.problem in seen.problems}
    failed = {record.problem for record in verdicts.values() if record.verdict == "UKE"}
    problems = tuple(p for p in facts.problems if p.id not in failed)
    if not problems:
        raise RecordsError("the judge failed on every problem (UKE): there is nothing to compare")
    families = Families.named([problem.family for problem in problems])
    arms = tuple(_summarize_arm(arm, facts, problems, families, verdicts) for arm in facts.arms)
    reference, control = facts.reference, facts.control
    same = facts.same_model(reference) if reference else ()
    repeats = tuple(name for name in same if name != reference)
    passes = {arm.facts.name: arm.passes for arm in arms}
    margin = float(facts.config["equivalence"]["margin"])
    return RunSummary(
        facts=facts,
        problems=problems,
        families=families,
        unjudged=tuple(p.id for p in facts.problems if p.id in failed),
        arms=arms,
        comparisons=compare_arms(passes, reference, control, margin, families, repeats, seen.look)
        if reference
        else (),
        reference=reference,
        control=control,
        repeats=repeats,
        token_level=token_level,
        plan=plan,
        look=seen.look,
        planned=planned,
    )


def _incomplete(facts: RunFacts, verdicts: Mapping[Key, VerdictRecord]) -> RecordsError:
    problems = planned_looks(facts)[0].problems
    wanted = len(facts.arms) * len(problems) * facts.samples
    counts = records_by_problem(facts, verdicts)
    there = sum(counts[problem] for problem in problems)
    return RecordsError(
        f"{wanted - there} of {wanted} verdicts are missing: the run is not "
        "finished. Start it again with the same configuration; it goes on where it stopped"
    )


def _summarize_arm(
    arm: ArmFacts,
    facts: RunFacts,
    problems: Sequence[ProblemFacts],
    families: Families,
    verdicts: Mapping[Key, VerdictRecord],
) -> ArmSummary:
    samples = range(facts.samples)
    grid = [[verdicts[arm.name, p.id, sample] for sample in samples] for p in problems]
    records = [record for row in grid for record in row]
    passes = np.array([[record.verdict == "AC" for record in row] for row in grid])
    every = Counter(record.verdict for record in verdicts.values() if record.arm == arm.name)
    compiled = [r.code_sha256 is not None and r.verdict != "CE" for r in records]
    powers = [2**i for i in range(facts.samples.bit_length()) if 2**i < facts.samples]
    intervals = {
        k: pass_at_k_interval(passes, k, families=families) for k in (*powers, facts.samples)
    }
    return ArmSummary(
        facts=arm,
        passes=passes,
        interval=intervals[1],
        pass_at={k: pass_at_k(passes, k) for k in intervals},
        pass_at_interval=intervals,
        compile_rate=float(np.mean(compiled)),
        no_code_rate=float(np.mean([record.code_sha256 is None for record in records])),
        choice_rate=float(np.mean([record.was_chosen for record in records])),
        mean_score=float(np.mean([record.score for record in records])),
        verdicts={name: every.get(name, 0) for name in VERDICTS},
    )
