"""Where the time of an export goes, beside copying the files of its base.

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR
    python -m benchmarks.export_stages --model DIR

The artifact is of a real one's size, so no code of the 4-bit base can move: the export reads, asks,
writes, reads again, compares and hashes, and what it writes are the base's own weights. Factors are
stored (the first run of this computes them, which takes long). Copy and export run in turn and end
when the data are on the disk (fsync). What the one wrote is removed right before the other starts,
so that both write into the same memory: on a virtual machine the first touch of memory that its
host has taken back costs more than the write itself. Once with the base in the page cache, once
from the disk (its pages are given back right before).

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
from benchmarks.measure import machine, word
from benchmarks.watch import ROOT

WANTED = 2.0
STAGES = ("hash", "read", "factors", "fold", "write", "check", "measure")


@dataclass(frozen=True)
class Run:
    """One export.

    Attributes:
        start: Seconds until the interpreter has imported the exporter.
        export: Seconds in ``exporter.export``.
        stages: Seconds of its threads by stage.
        moved: Codes that moved.
    """

    start: float
    export: float
    stages: dict[str, float]
    moved: int


def child(model: Path, base: Path, out: Path) -> None:
    """Import, say so, wait for a line, export and say what it took."""
    from exporter import ExportRequest, export
    from tinylora import DeltaOptions

    print("ready", flush=True)
    sys.stdin.readline()
    request = ExportRequest(
        base=base,
        artifact=model / "tiny_lora_v.pt",
        out=out,
        format="nf4",
        options=DeltaOptions(svd="fast"),  # they are stored, so which they are costs nothing
        factor_store=model / "factors",
    )
    start = time.perf_counter()
    report = export(request)
    seconds = time.perf_counter() - start
    moved = sum(module.codes_moved or 0 for module in report.fidelity.modules)
    print(json.dumps({"export": seconds, "stages": dict(report.seconds), "moved": moved}))


def run_export(model: Path, base: Path, earlier: Path, threads: int) -> Run:
    """Export in a process of its own; ``earlier`` is removed right before."""
    out = model / "out-stages"
    shutil.rmtree(out, ignore_errors=True)
    paths = ("--model", model, "--base", base, "--child", out)
    command = [sys.executable, "-m", "benchmarks.export_stages", *map(str, paths)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None, "a pipe"
        process.stdout.readline()
        seconds = time.perf_counter() - start
        shutil.rmtree(earlier, ignore_errors=True)
        said = process.communicate(b"go\n")[0]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    found = json.loads(said.splitlines()[-1])
    return Run(seconds, found["export"], found["stages"], found["moved"])


def run_copy(base: Path, out: Path, earlier: Path) -> float:
    """Seconds for a copy of a directory's files that has reached the disk."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(earlier, ignore_errors=True)
    start = time.perf_counter()
    out.mkdir()
    for file in sorted(base.iterdir()):
        shutil.copyfile(file, out / file.name)
        with (out / file.name).open("rb") as written:
            os.fsync(written.fileno())
    return time.perf_counter() - start


def forget(base: Path) -> None:
    """Ask the kernel to drop the base's pages, so that it is read from the disk."""
    for file in base.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def section(title: str, base: Path, copies: Sequence[float], runs: Sequence[Run]) -> list[str]:
    """Markdown of one base."""
    size = sum(file.stat().st_size for file in base.iterdir())
    copy = statistics.median(copies)
    rows = [("copy of the base's files (limit)", list(copies))]
    rows += [("export", [run.export for run in runs])]
    rows += [("export and the start of its process", [run.start + run.export for run in runs])]
    lines = [f"## {title}, {size / 1e9:.2f} GB, {runs[0].moved} codes moved", ""]
    lines += ["| way | median s | all s | of the copy |", "| --- | ---: | --- | ---: |"]
    for name, seconds in rows:
        middle = statistics.median(seconds)
        every = " ".join(f"{s:.2f}" for s in seconds)
        lines.append(f"| {name} | {middle:.2f} | {every} | {middle / copy:.2f} × |")
    ratio = statistics.median(run.export for run in runs) / copy
    lines += ["", f"{ratio:.1f} × the copy (wanted ≤ {WANTED:g}: {word(ratio <= WANTED)})."]
    lines += ["", "| stage of the export | median thread seconds |", "| --- | ---: |"]
    for stage in STAGES:
        middle = statistics.median(run.stages.get(stage, 0.0) for run in runs)
        lines.append(f"| {stage} | {middle:.2f} |")
    return [*lines, ""]


def measure(
    title: str, model: Path, base: Path, rounds: int, threads: int, from_disk: bool = False
) -> list[str]:
    """Copy and export in turn."""
    copies, runs = [], []
    copied, exported = model / "out-copy", model / "out-stages"
    run_copy(base, copied, exported)  # so that the first round writes where the others do
    run_export(model, base, copied, threads)
    for _ in range(rounds):
        if from_disk:
            forget(base)
        copies.append(run_copy(base, copied, exported))
        if from_disk:
            forget(base)
        runs.append(run_export(model, base, copied, threads))
    shutil.rmtree(exported)
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
        *measure("4-bit base in the page cache", model, base_4bit, args.rounds, args.threads),
        *measure("4-bit base from the disk", model, base_4bit, args.rounds, args.threads, True),
        *measure("16-bit base, quantized on the way", model, model / "base", 2, args.threads),
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
