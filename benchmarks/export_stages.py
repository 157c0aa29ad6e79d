"""Where the time of an export goes, beside copying the files of its base.

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR
    python -m benchmarks.export_stages --model DIR

The artifact is of a real one's size, so no code of the 4-bit base can move: the export reads, asks,
writes, reads again, compares and hashes, and what it writes are the base's own weights. Factors are
stored (the first run of this computes them, which takes long). Copy and export run in turn, each
once a round, after what they wrote before has been removed and a pause, so that both write to
memory and disk in the same state. Both end when the data are on the disk (fsync).

Writes results/bench/export.md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.beside_peft import prepare
from benchmarks.measure import machine
from benchmarks.watch import ROOT

STAGES = ("hash", "read", "factors", "fold", "write", "check", "measure")
_PAUSE = 5.0


@dataclass(frozen=True)
class Run:
    """One export.

    Attributes:
        command: Seconds of the process, from start to end.
        export: Of these, seconds in ``exporter.export``.
        stages: Seconds of its threads by stage.
        moved: Codes that moved.
    """

    command: float
    export: float
    stages: dict[str, float]
    moved: int


def child(model: Path, base: Path, out: Path) -> None:
    """Export in this process and say what it took."""
    from exporter import ExportRequest, export

    request = ExportRequest(
        base=base,
        artifact=model / "tiny_lora_v.pt",
        out=out,
        format="nf4",
        factor_store=model / "factors",
    )
    start = time.perf_counter()
    report = export(request)
    seconds = time.perf_counter() - start
    moved = sum(module.codes_moved or 0 for module in report.fidelity.modules)
    print(json.dumps({"export": seconds, "stages": dict(report.seconds), "moved": moved}))


def run_export(model: Path, base: Path, threads: int) -> Run:
    """Export in a process of its own."""
    out = model / "out-stages"
    _remove(out)
    paths = ("--model", model, "--base", base, "--child", out)
    command = [sys.executable, "-m", "benchmarks.export_stages", *map(str, paths)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    found = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True)
    seconds = time.perf_counter() - start
    _remove(out)
    said = json.loads(found.stdout.splitlines()[-1])
    return Run(seconds, said["export"], said["stages"], said["moved"])


def run_copy(base: Path, out: Path) -> float:
    """Seconds for a copy of a directory's files that has reached the disk."""
    _remove(out)
    start = time.perf_counter()
    out.mkdir()
    for file in sorted(base.iterdir()):
        shutil.copyfile(file, out / file.name)
        with (out / file.name).open("rb") as written:
            os.fsync(written.fileno())
    seconds = time.perf_counter() - start
    _remove(out)
    return seconds


def _remove(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    time.sleep(_PAUSE)


def section(title: str, base: Path, copies: Sequence[float], runs: Sequence[Run]) -> list[str]:
    """Markdown of one base."""
    size = sum(file.stat().st_size for file in base.iterdir())
    copy = statistics.median(copies)
    rows = [("copy of the base's files (limit)", list(copies))]
    rows += [("export, in a running process", [run.export for run in runs])]
    rows += [("export, the whole command", [run.command for run in runs])]
    lines = [f"## {title}, {size / 1e9:.2f} GB, {runs[0].moved} codes moved", ""]
    lines += ["| way | median s | all s | of the copy |", "| --- | ---: | --- | ---: |"]
    for name, seconds in rows:
        middle = statistics.median(seconds)
        every = " ".join(f"{s:.2f}" for s in seconds)
        lines.append(f"| {name} | {middle:.2f} | {every} | {middle / copy:.2f} × |")
    lines += ["", "| stage of the export | median thread seconds |", "| --- | ---: |"]
    for stage in STAGES:
        middle = statistics.median(run.stages.get(stage, 0.0) for run in runs)
        lines.append(f"| {stage} | {middle:.2f} |")
    return [*lines, ""]


def measure(title: str, model: Path, base: Path, rounds: int, threads: int) -> list[str]:
    """Copy and export in turn."""
    copies, runs = [], []
    for _ in range(rounds):
        copies.append(run_copy(base, model / "out-copy"))
        runs.append(run_export(model, base, threads))
    return section(title, base, copies, runs)


def main() -> None:
    """Measure both bases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="made by benchmarks.random_base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("results/bench/export.md"))
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    model = args.model.resolve()
    if args.child is not None:
        child(model, args.base, args.child)
        return
    base_4bit = prepare(model, args.threads)
    lines = [
        "# Export beside copying the files",
        "",
        f"`python -m benchmarks.export_stages --model {model.name} --rounds {args.rounds} "
        f"--threads {args.threads}` on {machine()}; {args.threads} threads. nf4, factors stored; "
        "copy and export in turn, both until the data are on the disk. Stages "
        "overlap, so their sum is more than the time that passed.",
        "",
        *measure("4-bit base", model, base_4bit, args.rounds, args.threads),
        *measure("16-bit base, quantized on the way", model, model / "base", 1, args.threads),
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
