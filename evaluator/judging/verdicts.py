"""Verdicts of tests and programs, and how scores add up.

========  ===========================================================================
AC        accepted
CE        does not compile, or there is no code
PC        partial points of a special judge
WA        wrong answer
RE        ended by a signal or an exit code other than 0
TLE       CPU time over the limit, or asleep until the wall limit
MLE       resident memory over the limit
OLE       more output than allowed
UKE       the judge itself failed; nothing is known about the program
========  ===========================================================================
"""

import signal
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from evaluator.store.records import TestRecord, Verdict
from evaluator.suites.problem import Problem


class Decision(NamedTuple):
    """What is found about one run of a program: verdict, share of the points (0 to 1), why."""

    verdict: Verdict
    share: float
    detail: str


@dataclass(frozen=True)
class ProgramVerdict:
    """Outcome of one program on one problem.

    Attributes:
        score: 0 to 100.
        tests: In the problem's order; empty for CE.
        subtasks: Subtask id -> points got, see :func:`program_verdict`.
        detail: For CE and UKE: why.
    """

    verdict: Verdict
    score: float = 0.0
    tests: tuple[TestRecord, ...] = ()
    subtasks: Mapping[int, float] = field(default_factory=dict)
    compile_message: str = ""
    detail: str = ""


def signal_name(number: int) -> str:
    """Name a signal for people: ``SIGSEGV (segmentation fault)``."""
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
    return f"{name} ({(signal.strsignal(number) or name).lower()})"


def program_verdict(
    problem: Problem, tests: Sequence[TestRecord], message: str = ""
) -> ProgramVerdict:
    """Combine the verdicts of all tests of a problem, in its order.

    It is AC if all are, else the program's first fault; UKE only where there is none. A subtask is
    worth the points of its cheapest test, and gives the share of them that its worst test got. The
    score is the share of all points, out of 100; tests on which the judge failed (UKE) give and
    cost none.
    """
    shares: dict[int, list[float]] = defaultdict(list)
    full: dict[int, list[float]] = defaultdict(list)
    total = possible = 0.0
    for case, test in zip(problem.tests, tests, strict=True):
        if test.verdict == "UKE":
            continue
        if case.subtask is None:
            total += test.score
            possible += case.score
        else:
            shares[case.subtask].append(test.score / case.score if case.score else 0.0)
            full[case.subtask].append(case.score)
    subtasks = {name: min(got) * min(full[name]) for name, got in sorted(shares.items())}
    total += sum(subtasks.values())
    possible += sum(min(points) for points in full.values())
    failed = [test for test in tests if test.verdict == "UKE"]
    faults = [test.verdict for test in tests if test.verdict not in ("AC", "UKE")]
    verdict = faults[0] if faults else "UKE" if failed else "AC"
    score = 100 * total / possible if possible else 100.0 * (verdict == "AC")
    detail = failed[0].detail if verdict == "UKE" else ""
    return ProgramVerdict(verdict, score, tuple(tests), subtasks, message, detail)
