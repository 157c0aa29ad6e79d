"""Facts and verdict records of a made-up run; no model, no compiler."""

import dataclasses

from evaluator.store.records import VerdictRecord, append
from evaluator.store.run_directory import ArmFacts, ProblemFacts, RunDirectory, RunFacts

PROBLEMS = 200
KINDS = {"base": "base", "restored": "restored", "nf4": "merged", "gone": "merged"}


def facts(samples=1, kinds=KINDS, margin=0.05):
    decoding = {"samples": samples, "temperature": 0.8, "seed": 0, "batch_size": 16}
    problems = (ProblemFacts(f"P{i}", f"f{i}", "zh" if i % 2 else "en") for i in range(PROBLEMS))
    arms = (
        ArmFacts(name, kind, "2" * 64, None, 1_500_000, 0.5 if name == "nf4" else None, None)
        for name, kind in kinds.items()
    )
    return RunFacts(
        config={"name": "demo", "equivalence": {"margin": margin}, "decoding": decoding},
        suite="made up",
        suite_digest="0" * 64,
        prompts_digest="1" * 64,
        problems=tuple(problems),
        arms=tuple(arms),
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


def begun(folder, run):
    """The directory of a run with verdicts and without results."""
    directory = RunDirectory(folder)
    directory.begin(run, "name: demo\n", overwrite=False)
    append(directory.verdicts, list(records(run).values()))
    return directory


REPEATED = {"restored": "restored", "again": "restored", "base": "base", "nf4": "merged"}


def noisy(one):
    """The repeat flips 10 problems each way, nf4 2 and 1."""
    i = int(one.problem[1:])
    gains, losses = {"again": (10, 10), "nf4": (2, 1)}.get(one.arm, (0, 0))
    if i < losses:
        return dataclasses.replace(one, verdict="WA")
    return dataclasses.replace(one, verdict="AC") if 120 <= i < 120 + gains else one


def repeated(seed=1, temperature=0.8, batch_size=None, others=None, **backend):
    """Facts with a repeat of this seed, batch size and backend; ``others``: seed of the rest."""
    run = facts(kinds=REPEATED)
    arms = [{"name": name, "seed": None if name == "restored" else others} for name in REPEATED]
    for arm in arms:
        if arm["name"] == "again":
            arm |= {"seed": seed, "batch_size": batch_size, **backend}
    decoding = {**run.config["decoding"], "temperature": temperature}
    return dataclasses.replace(run, config={**run.config, "arms": arms, "decoding": decoding})
