"""Makes ``demo/suite/{train,heldout}``: problems, tests, archives.

Run as ``python -m demo.make_suite`` from the repository's root; needs g++. Every answer is
computed twice, by the family's Python solution and by its C++ reference, and the two must agree.
The tests of a problem are chosen so that every known wrong program fails at least one of them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from string import Template
from types import SimpleNamespace
from typing import Any

import yaml

from demo.families import FAMILIES, NAMES, Family
from demo.programs import compiled, output_of, same_lines
from demo.split import heldout_variants, only_heldout, train_variants

HERE = Path(__file__).parent
ARCHIVED = {
    "some-multiple",
    "some-jump",
    "split-in-two",
    "windows",
    "work-queue",
    "power-mod",
    "outline",
    "rabbits",
}


def accepts(family: Family, p: SimpleNamespace, folder: Path) -> Callable[..., bool]:
    """The family's judgement of an output: by its special judge, its tolerance, or by lines."""
    if family.checker is None:

        def plain(output: str | None, data: str, answer: str) -> bool:
            if output is None or family.tolerance is None:
                return same_lines(output, answer)
            try:
                return abs(float(output) - float(answer)) <= family.tolerance
            except ValueError:
                return False

        return plain
    checker = compiled(checker_source(family, p), folder)

    def special(output: str | None, data: str, answer: str) -> bool:
        if output is None:
            return False
        with tempfile.TemporaryDirectory() as at:
            names = []
            for name, text in (("in", data), ("out", output), ("ans", answer)):
                (Path(at) / name).write_text(text)
                names.append(f"{at}/{name}")
            return output_of(checker, "", *names) is not None

    return special


def checker_source(family: Family, p: SimpleNamespace) -> str:
    """The special judge of one problem."""
    return Template(family.checker or "").substitute(vars(p))


def tests_of(
    family: Family, p: SimpleNamespace, rng: Random, folder: Path
) -> list[tuple[str, str]]:
    """Input/answer pairs, the sample first; every slip of the family fails one of them."""
    drawn: dict[str, str] = {}
    for _ in range(120):
        data = family.draw(rng, p)
        drawn.setdefault(family.form.render(data), family.answer_text(p, data))
    accept = accepts(family, p, folder)
    reference = compiled(family.program(p), folder)
    for text, answer in drawn.items():
        if not accept(output_of(reference, text), text, answer):
            raise SystemExit(f"{family.key} {vars(p)}: the two solutions differ on {text!r}")
    # Short inputs make good samples, and the shortest are rarely the telling ones.
    cases = sorted(drawn.items(), key=lambda case: (abs(len(case[0]) - 14), case[0]))
    chosen = [cases[0]]
    for slip in family.slips():
        wrong = compiled(family.program(p, slip), folder)
        if any(not accept(output_of(wrong, *case[:1]), *case) for case in chosen):
            continue
        killer = next((c for c in cases if not accept(output_of(wrong, c[0]), *c)), None)
        if killer is None:
            raise SystemExit(f"{family.key} {vars(p)}: no input shows the slip {slip}")
        chosen.append(killer)
    spare = [case for case in cases if case not in chosen]
    return chosen + rng.sample(spare, min(len(spare), max(0, 5 - len(chosen))))


def record(
    family: Family, p: SimpleNamespace, number: str, language: str, suite: Path, folder: Path
) -> dict[str, Any]:
    """One line of problems.jsonl; writes the archive where the family has one."""
    rng = Random(f"{family.key} {sorted(vars(p).items())}")
    tests = tests_of(family, p, rng, folder)
    who = rng.choice(NAMES[language])
    pick = 0 if language == "zh" else 1
    row: dict[str, Any] = {
        "id": number,
        "title": family.title[pick],
        "family": family.key,
        "language": language,
        "source": "demo",
        "statement": family.statement(p, language, number, who, tests[0]),
        "time_limit_ms": 1000,
        "memory_limit_kib": 131072,
    }
    if family.key in ARCHIVED:
        row["archive"] = f"data/{number}.zip"
        write_archive(suite / row["archive"], tests, family, p)
        return row
    row["tests"] = [
        {"name": str(i), "input": text, "output": answer}
        for i, (text, answer) in enumerate(tests, 1)
    ]
    if family.tolerance is not None:
        row["checker"] = {"kind": "float", "tolerance": family.tolerance}
    return row


def write_archive(
    path: Path, tests: list[tuple[str, str]], family: Family, p: SimpleNamespace
) -> None:
    """A Luogu archive: the sample as a pretest, the other tests in two subtasks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    config: dict[str, dict[str, Any]] = {}
    for i, (text, answer) in enumerate(tests, 1):
        files[f"test{i}.in"], files[f"test{i}.out"] = text, answer
        config[f"test{i}.in"] = {
            "timeLimit": 1000,
            "memoryLimit": 131072,
            "score": 10 if i == 1 else 20,
            "subtaskId": 0 if i <= 3 else 1,
            "isPretest": i == 1,
        }
    files["config.yml"] = yaml.safe_dump(config, sort_keys=False)
    if family.checker:
        files["checker.cpp"] = checker_source(family, p)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)


def write_part(part: str, chosen: list[tuple[Family, SimpleNamespace]], first: int) -> None:
    """Writes one suite folder, numbering its problems from ``first``."""
    suite = HERE / "suite" / part
    suite.mkdir(parents=True, exist_ok=True)
    for old in (suite / "data").glob("*.zip"):
        old.unlink()
    with tempfile.TemporaryDirectory() as at, concurrent.futures.ThreadPoolExecutor(2) as pool:
        rows = list(
            pool.map(
                lambda job: record(
                    *job[1], f"D{first + job[0]}", ("zh", "en")[job[0] % 2], suite, Path(at)
                ),
                enumerate(chosen),
            )
        )
    (suite / "problems.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )
    about = {
        "format": "tinylora-suite/1",
        "name": f"tinylora-demo-{part}",
        "license": "MIT",
        "description": "Original Luogu-style problems in Chinese and English, "
        + ("for training an adapter." if part == "train" else "touched by no training."),
        "source": "python -m demo.make_suite",
    }
    (suite / "suite.json").write_text(json.dumps(about, indent=2) + "\n")
    print(
        f"{part}: {len(rows)} problems, {len({row['family'] for row in rows})} families, "
        f"{sum('archive' in row for row in rows)} archives"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heldout-per-family", type=int, default=3)
    parser.add_argument("--train-per-family", type=int, default=2)
    options = parser.parse_args()
    train = [
        (f, p)
        for f in FAMILIES
        if not only_heldout(f)
        for p in train_variants(f)[: options.train_per_family]
    ]
    heldout = [(f, p) for f in FAMILIES for p in heldout_variants(f)[: options.heldout_per_family]]
    write_part("train", train, 1001)
    write_part("heldout", heldout, 5001)


if __name__ == "__main__":
    main()
