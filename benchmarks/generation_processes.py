"""Completions by several processes beside one process, and beside one with as many threads.

    python -m benchmarks.generation_processes [--prompts 256] [--processes 2] [--rounds 3]

Each way is started as a user starts a run, alone or under torchrun, and goes through the
evaluator's own stage of generation; nothing is judged. Ways take turns. Two times are told: that of
the batches alone, as the records say it, of the process that took longest; and that of the whole
command, from its start over imports, loading and waiting for each other to the end of the last
process. The limit of N processes is N times the speed of one. The texts have to be the same.

It wants a quiet machine more than others do: threads of one process wait for each other on the
processor, so that beside another program two of them can be much slower than one.

Writes results/bench/generation_processes.md.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.generation import (
    ARM,
    BASE,
    MAX_NEW_TOKENS,
    SUITE,
    Texts,
    chosen_prompts,
    differing,
)
from benchmarks.measure import machine
from benchmarks.watch import watch
from evaluator.config.run_config import DecodingConfig, RunConfig
from evaluator.generation.checkpoints import find_checkpoint
from evaluator.generation.processes import launched_processes
from evaluator.generation.stage import generate_share
from evaluator.store.records import GenerationRecord, read
from evaluator.store.run_directory import RunDirectory
from tinylora.models.chat import load_tokenizer

MODULE = "benchmarks.generation_processes"


@dataclass(frozen=True)
class Job:
    """What all ways write: greedy completions of some prompts of the demo's suite."""

    prompts: int
    batch_size: int
    max_new_tokens: int

    @property
    def arguments(self) -> list[str]:
        """The job on a command line."""
        named = {
            "--prompts": self.prompts,
            "--batch-size": self.batch_size,
            "--max-new-tokens": self.max_new_tokens,
        }
        return [word for name, value in named.items() for word in (name, str(value))]

    def config(self, out: Path) -> RunConfig:
        """The job as a run of the evaluator."""
        decoding = DecodingConfig(max_new_tokens=self.max_new_tokens, batch_size=self.batch_size)
        return RunConfig(name="processes", suite=SUITE, out=out, arms=(ARM,), decoding=decoding)


@dataclass(frozen=True)
class Way:
    """A number of processes, with as many threads each."""

    processes: int
    threads: int

    @property
    def name(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.processes == 1:
            return f"1 process, {threads}"
        return f"{self.processes} processes, {threads} each"

    @property
    def limit(self) -> int:
        """Cores that it can keep busy: so many times the speed of one process would be perfect."""
        return self.processes * self.threads

    @property
    def launcher(self) -> list[str]:
        """What starts a module in this way; one process needs no torchrun."""
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", self.processes]
        before = ["-m", *map(str, torchrun)] if self.processes > 1 else []
        return [sys.executable, *before, "-m"]


@dataclass(frozen=True)
class Run:
    """What one start of a way made.

    Attributes:
        shares: Seconds that each process spent in its batches, models loaded.
        whole: Seconds from the start of the command to its end.
        texts: Of all processes, by problem.
    """

    shares: tuple[float, ...]
    whole: float
    texts: Texts

    @property
    def generation(self) -> float:
        """Seconds of the process that took longest: all of them start together."""
        return max(self.shares)

    @property
    def rest(self) -> float:
        """Seconds in which nothing was generated."""
        return self.whole - self.generation


def write_share(job: Job, out: Path) -> None:
    """What each process does: ``evaluator.run`` from its launch to the last completion."""
    with launched_processes() as processes:
        prompts = chosen_prompts(job.prompts, load_tokenizer(BASE))
        generate_share(
            RunDirectory(out),
            job.config(out),
            {ARM.name: find_checkpoint(ARM)},
            prompts,
            torch.device("cpu"),
            processes,
            lambda *_: None,
        )
        processes.wait()


def run(way: Way, job: Job) -> Run:
    """Start a way, wait for its end and read what it wrote."""
    with tempfile.TemporaryDirectory() as out:
        command = [*way.launcher, MODULE, "--child", out, *job.arguments]
        whole = watch(command, way.threads).seconds
        return read_run(Path(out), way, whole)


def read_run(out: Path, way: Way, whole: float) -> Run:
    """The files that the processes of a way left; each process has its own.

    Raises:
        RuntimeError: Work was done twice.
    """
    files = [RunDirectory(out).generations_of(rank) for rank in range(way.processes)]
    shares = [read(file, GenerationRecord.from_row).values() for file in files]
    seconds = tuple(sum(record.seconds for record in share) for share in shares)
    texts = {record.problem: record.text for share in shares for record in share}
    if len(texts) < sum(map(len, shares)):
        raise RuntimeError(f"{way.name}: two of them wrote a completion of the same prompt")
    return Run(seconds, whole, texts)


def measure(job: Job, processes: int, rounds: int) -> dict[Way, list[Run]]:
    """All ways in turn; the first is one process with one thread."""
    runs: dict[Way, list[Run]] = {Way(1, 1): [], Way(1, processes): [], Way(processes, 1): []}
    run(Way(1, 1), replace(job, prompts=1))  # files of all imports come into the page cache
    for _ in range(rounds):
        for way, made in runs.items():
            made.append(run(way, job))
    return runs


def report(runs: Mapping[Way, Sequence[Run]], job: Job, command: str) -> str:
    """A table with medians; speeds are those of the first way times so many, of a limit."""
    one, *_ = runs.values()
    lines = [
        "# Generation: several processes beside one",
        "",
        f"`{command}` on {machine()}; {len(os.sched_getaffinity(0))} cores.",
        "",
        f"{len(one[0].texts)} prompts of the demo's held-out suite, greedy, float32 arithmetic on "
        f"the base in 4 bits, at most {job.max_new_tokens} new tokens, batches of "
        f"{job.batch_size}. Medians of {len(one)} starts in turn. Generation is the time in "
        "batches of the process that took longest, models loaded; shares are of whole batches, "
        "which take unlike times. The whole command adds interpreters, imports, the launcher, "
        "loading and waiting. Speed is beside the first row, of what perfect scaling would give.",
        "",
        "| way | generation s | speed | each process s | start, loading, end s | whole command s "
        "| speed | different texts |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [row(way, made, one) for way, made in runs.items()]
    return "\n".join(lines) + "\n"


def row(way: Way, runs: Sequence[Run], one: Sequence[Run]) -> str:
    """The line of a way beside those of one process."""
    generation, whole = middle(runs, "generation"), middle(runs, "whole")
    shares = zip(*(run.shares for run in runs), strict=True)
    cells = (
        way.name,
        f"{generation:.2f}",
        f"{middle(one, 'generation') / generation:.2f} of {way.limit}",
        " ".join(f"{statistics.median(seconds):.2f}" for seconds in shares),
        f"{middle(runs, 'rest'):.2f}",
        f"{whole:.2f}",
        f"{middle(one, 'whole') / whole:.2f} of {way.limit}",
        f"{different(runs, one)} of {len(one[0].texts)}",
    )
    return f"| {' | '.join(cells)} |"


def middle(runs: Sequence[Run], name: str) -> float:
    return statistics.median(getattr(run, name) for run in runs)


def different(runs: Sequence[Run], one: Sequence[Run]) -> int:
    """Texts that differ from those of one process, in the worst run."""
    return max(differing(run.texts, one[0].texts) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=MAX_NEW_TOKENS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/bench/generation_processes.md"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    job = Job(args.prompts, args.batch_size, args.max_new_tokens)
    if args.child is not None:
        write_share(job, args.child)
        return
    runs = measure(job, args.processes, args.rounds)
    count = ["--processes", str(args.processes), "--rounds", str(args.rounds)]
    command = " ".join(["python -m", MODULE, *job.arguments, *count])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report(runs, job, command))
    print(args.out.read_text())
    one, *_ = runs.values()
    if any(different(made, one) for made in runs.values()):
        raise SystemExit("texts differ from those of one process")


if __name__ == "__main__":
    main()
