"""Where the time of an export goes, beside copying the files of its base.

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR
    python -m benchmarks.export_stages --model DIR

The artifact is of a real one's size, so no code of the 4-bit base can move: the export reads, asks,
writes, reads back, compares and hashes, and what it writes are the base's own weights. Factors are
stored (the fast ones, as which they are does not matter to the speed), and so are the digests of
known contents. Copy and export run in turn and end when the data are on the disk (fsync), each
after memory was put into the same state (benchmarks.page_cache). Bases: 4-bit, as this exporter
lays it out, in the page cache and from the disk; the same as safetensors' own writer lays it out;
and 16-bit, which is quantized on the way, so that less is written than the copy writes.

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

from safetensors.torch import load_file, save_file

from benchmarks.beside_peft import ours
from benchmarks.measure import machine, word
from benchmarks.page_cache import forget, remember, settle
from benchmarks.watch import ROOT, watch

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


def run_export(model: Path, base: Path, out: Path, threads: int) -> Run:
    """Export in a process of its own."""
    paths = ("--model", model, "--base", base, "--child", out)
    command = [sys.executable, "-m", "benchmarks.export_stages", *map(str, paths)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None, "a pipe"
        process.stdout.readline()
        seconds = time.perf_counter() - start
        said = process.communicate(b"go\n")[0]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    found = json.loads(said.splitlines()[-1])
    return Run(seconds, found["export"], found["stages"], found["moved"])


def run_copy(base: Path, out: Path) -> float:
    """Seconds for a copy of a directory's files that has reached the disk."""
    start = time.perf_counter()
    out.mkdir()
    for file in sorted(base.iterdir()):
        shutil.copyfile(file, out / file.name)
        with (out / file.name).open("rb") as written:
            os.fsync(written.fileno())
    return time.perf_counter() - start


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
    """Copy and export in turn; the first round is not counted."""
    copies, runs = [], []
    out = model / "out-stages"
    for _ in range(rounds + 1):
        prepare(model, base, from_disk)
        copies.append(run_copy(base, out))
        shutil.rmtree(out)
        prepare(model, base, from_disk)
        runs.append(run_export(model, base, out, threads))
        shutil.rmtree(out)
    return section(title, base, copies[1:], runs[1:])


def prepare(model: Path, base: Path, from_disk: bool) -> None:
    """The state of memory from which both sides start."""
    settle(model, free=4 << 30)
    remember((model / "factors").iterdir())
    (forget if from_disk else remember)(base.iterdir())


def four_bit_base(model: Path, threads: int) -> Path:
    """A base in 4 bits, made by the exporter; the delta moves no code of it."""
    out = model / "base-4bit-fast"
    if not out.is_dir():
        options = ("--format", "nf4", "--svd", "fast")
        watch(ours(model, model / "base", *options, out=out), threads)
    return out


def laid_out_anew(model: Path, base: Path) -> Path:
    """The same base in files of safetensors' own writer."""
    out = model / "base-4bit-laid-out"
    if not out.is_dir():
        out.mkdir()
        for file in base.glob("*.safetensors"):
            save_file(load_file(file), out / file.name, metadata={"format": "pt"})
        for file in (*base.glob("*config.json"), *base.glob("*.index.json")):
            shutil.copyfile(file, out / file.name)
    return out


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
    base_4bit = four_bit_base(model, args.threads)
    laid_out = laid_out_anew(model, base_4bit)
    lines = [
        "# Export beside copying the files",
        "",
        f"`python -m benchmarks.export_stages --model {model.name} --rounds {args.rounds} "
        f"--threads {args.threads}` on {machine()}; {args.threads} threads. nf4, factors stored; "
        "copy and export in turn, both until the data are on the disk. Stages "
        "overlap and wait for each other, so their sum is more than the time that passed.",
        "",
        *measure("4-bit base in the page cache", model, base_4bit, args.rounds, args.threads),
        *measure("The same, by safetensors' writer", model, laid_out, args.rounds, args.threads),
        *measure("4-bit base from the disk", model, base_4bit, args.rounds, args.threads, True),
        *measure(
            "16-bit base, quantized on the way", model, model / "base", args.rounds, args.threads
        ),
    ]
    (model / "filler").unlink()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
