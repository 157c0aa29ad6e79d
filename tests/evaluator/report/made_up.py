"""Facts and verdict records of a made-up run; no model, no compiler."""

from evaluator.store.records import VerdictRecord
from evaluator.store.run_directory import ArmFacts, ProblemFacts, RunFacts

PROBLEMS = 200
KINDS = {"base": "base", "restored": "restored", "nf4": "merged", "gone": "merged"}


def facts(samples=1, kinds=KINDS, margin=0.05):
    return RunFacts(
        config={
            "name": "demo",
            "equivalence": {"margin": margin},
            "decoding": {"samples": samples, "temperature": 0.8, "seed": 0},
        },
        suite="made up",
        suite_digest="0" * 64,
        prompts_digest="1" * 64,
        problems=tuple(
            ProblemFacts(f"P{i}", f"f{i % 7}", "zh" if i % 2 else "en") for i in range(PROBLEMS)
        ),
        arms=tuple(
            ArmFacts(name, kind, "2" * 64, None, 1_500_000, 0.5 if name == "nf4" else None, None)
            for name, kind in kinds.items()
        ),
    )


def record(arm, problem, sample, verdict):
    code = None if verdict == "none" else "3" * 64
    return VerdictRecord(
        arm=arm,
        problem=problem,
        sample=sample,
        verdict="CE" if verdict == "none" else verdict,
        score=100.0 if verdict == "AC" else 25.0 if verdict == "WA" else 0.0,
        code_sha256=code,
        how="none" if code is None else "fence",
        reason="no_code" if code is None else "",
        compile_message="",
        detail="",
        subtasks={},
        tests=(),
    )


def verdict_of(arm, i):
    """restored: 120 AC, 50 WA, 20 CE, 10 no code; base loses 60 of its passes; nf4 none."""
    if arm in ("base", "gone") and i < 60:
        return "WA"
    return "AC" if i < 120 else "WA" if i < 170 else "CE" if i < 190 else "none"


def records(run, change=None):
    made = {}
    for arm in run.arms:
        for i, problem in enumerate(run.problems):
            for sample in range(run.samples):
                one = record(arm.name, problem.id, sample, verdict_of(arm.name, i))
                made[one.key] = change(one) if change else one
    return made
