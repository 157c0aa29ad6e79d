"""Finished runs made by hand: every file that the page is made from, and no model."""

import json
from dataclasses import replace
from pathlib import Path

from evaluator.report.results import write_results
from evaluator.store.records import GenerationRecord, TestRecord, append
from evaluator.store.run_directory import ArmFacts, ProblemFacts, RunDirectory
from evaluator.store.snapshot import keep_sources
from evaluator.suites.problem import Problem, TestCase
from tests.evaluator.report import made_up

KINDS = {"base": "base", "restored": "restored", "nf4": "merged", "bf16": "merged"}
RESIDUALS = {"nf4": 0.8, "bf16": 0.0}
PROBLEMS = 40
# Everything that has ever got out of a text and into a page.
EVIL = (
    "</script><script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\">"
    "</pre></td></style><style>*{display:none}</style><svg onload=alert(1)>"
    "' onmouseover='x' \" onfocus=\" {{ 7*7 }} [a](javascript:alert(1)) <https://evil.example/>"
    " ![i](https://evil.example/i.png) $</span><script>x</script>$ \0 \ud800 \udcff \u202e end"
)


def problem(i):
    statement = "# 求和\n\n给定 $a_i\\le10^9$，求和。" if i % 2 else "# Sum\n\nGiven $a$, print it."
    tests = tuple(TestCase(name, f"{name} in\n", f"{name} out\n") for name in ("t1", "t2"))
    return Problem(f"P{i}", statement, tests, title=f"Title {i}", language="zh" if i % 2 else "en")


def passes(arm, i):
    """restored passes 0 … 19, base half of them, nf4 all but P3 and also P25, bf16 the same."""
    if arm == "base":
        return i < 20 and i % 2 == 0
    if arm == "nf4":
        return (i < 20 and i != 3) or i == 25
    return i < 20


def program(arm, i):
    return f"#include <cstdio>\nint main() {{\n  puts({int(passes(arm, i))});\n}}\n"


def generation(arm, i, sample=0):
    text = f"So:\n```cpp\n{program(arm, i)}```\n"
    return GenerationRecord(arm, f"P{i}", sample, text, 20, "stop", 0.1)


def verdict(arm, i, sample=0):
    good = passes(arm, i)
    second = TestRecord("t2", "AC" if good else "WA", float(good), 3, 100)
    if not good:
        second = replace(second, detail="line 1: expected '7', found '8'")
    made = made_up.record(arm, f"P{i}", sample, second.verdict)
    tests = (TestRecord("t1", "AC", 1.0, 3, 100), second)
    return replace(made, code_sha256=str(int(good)) * 64, tests=tests)


def make_run(
    folder: Path,
    *,
    kinds=KINDS,
    samples=1,
    change_problem=lambda problem: problem,
    change_verdict=lambda verdict: verdict,
    change_generation=lambda generation: generation,
    command="tinylora-eval run x.yaml",
):
    """Write the records of a finished run; (its directory, its results)."""
    problems = [change_problem(problem(i)) for i in range(PROBLEMS)]
    ids = {f"P{i}": p.id for i, p in enumerate(problems)}
    directory = RunDirectory(folder / "run")
    directory.path.mkdir()
    facts = replace(
        made_up.facts(samples, kinds),
        problems=tuple(ProblemFacts(p.id, p.family, p.language) for p in problems),
        arms=tuple(_arm(name, kind) for name, kind in kinds.items()),
    )
    directory.begin(facts, "name: made\n", overwrite=False)
    machine = {"cpu": "c", "cpus": 2, "device": "cpu"}
    session = {"command": command, "sandbox": {"rung": "bwrap"}, "machine": machine}
    directory.add_session({**session, "versions": {"torch": "9.9"}})
    keep_sources(directory, problems, {name: checkpoint(folder, name) for name in kinds})
    keys = [(arm, i, s) for arm in kinds for i in range(PROBLEMS) for s in range(samples)]
    generations = [change_generation(generation(*key)) for key in keys]
    verdicts = [change_verdict(verdict(*key)) for key in keys]
    append(directory.generations, [replace(g, problem=ids[g.problem]) for g in generations])
    append(directory.verdicts, [replace(v, problem=ids[v.problem]) for v in verdicts])
    return directory, write_results(directory)


def _arm(name, kind):
    residual = RESIDUALS.get(name)
    capture = None if residual is None else 1 - residual
    return ArmFacts(name, kind, "2" * 64, None, 1_500_000 + len(name), capture, residual)


def checkpoint(folder, name):
    """Directory of one of two layers with two modules each, where the arm is an export."""
    directory = folder / name
    directory.mkdir()
    residual = RESIDUALS.get(name)
    if residual is not None:
        modules = [
            {"module": f"model.layers.{k}.{part}", "residual": residual * scale, "delta_norm": norm}
            for k in range(2)
            for part, scale, norm in (("q_proj", 1, 3.0), ("down_proj", 0.5, 4.0))
        ]
        empty = {"module": "model.layers.0.k_proj", "residual": None, "delta_norm": 0.0}
        content = {"total": {}, "modules": [*modules, empty]}
        (directory / "fidelity.json").write_text(json.dumps(content))
    return directory
