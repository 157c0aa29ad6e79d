"""Generation by two processes beside one, on the same prompts and the same two cores.

    python -m benchmarks.processes [--prompts 64] [--batch-size 16] [--rounds 3]

Each way is a launch of its own by torchrun, in turn. Timed is what the processes do between two
moments at which they wait for each other, so without starting Python and loading the model. The
texts have to be the same. Writes results/bench/processes.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.generation import demo
from benchmarks.measure import machine
from evaluator.generation.generate import plan_batches, share_of
from evaluator.generation.processes import Processes, launched_processes


@dataclass(frozen=True)
class Way:
    """Processes, and threads of each."""

    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.processes} process(es) of {self.threads} thread(s)"


WAYS = (Way(1, 1), Way(1, 2), Way(2, 1))


def work(processes: Processes, prompt_count: int, batch_size: int, out: Path) -> None:
    """One process: complete its share and write seconds and texts into a file of its own."""
    with demo(prompt_count) as (generator, prompts):
        own = generator(batch_size)
        batches = plan_batches(prompts, own.decoding)
        list(own.complete(plan_batches(prompts[:2], own.decoding)))  # warm-up
        processes.wait()
        start = time.perf_counter()
        share = share_of(batches, processes.rank, processes.world)
        texts = {r.problem: r.text for made in own.complete(share) for r in made}
        busy = time.perf_counter() - start
        processes.wait()
        seconds = time.perf_counter() - start
    found = {"seconds": seconds, "busy": busy, "texts": texts}
    (out / f"{processes.rank}.json").write_text(json.dumps(found))


def launch(way: Way, prompt_count: int, batch_size: int) -> tuple[float, dict[str, str]]:
    """Seconds and texts of one launch."""
    with tempfile.TemporaryDirectory() as directory:
        torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", str(way.processes))
        options = ("--prompts", str(prompt_count), "--batch-size", str(batch_size))
        subprocess.run(
            (
                sys.executable,
                *torchrun,
                "-m",
                "benchmarks.processes",
                *options,
                "--work",
                directory,
            ),
            env=os.environ | {"OMP_NUM_THREADS": str(way.threads)},
            stderr=subprocess.DEVNULL,
            check=True,
        )
        found = [json.loads(path.read_text()) for path in Path(directory).iterdir()]
    texts = {problem: text for each in found for problem, text in each["texts"].items()}
    return max(each["seconds"] for each in found), texts


def report(seconds: dict[Way, list[float]], differing: int, count: int, command: str) -> str:
    """The table, and what two processes gain."""
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    one, threaded, two = (medians[way] for way in WAYS)
    lines = [
        "# Generation: several processes",
        "",
        f"`{command}` on {machine()}, {os.cpu_count()} cores (which may be two "
        "hyperthreads of one).",
        "",
        f"{count} prompts of the demo's held-out suite, greedy, float32 arithmetic on the base in "
        f"4 bits. {differing} texts differ between the ways.",
        "",
        "| way | median s | all s | prompts/s |",
        "| --- | ---: | --- | ---: |",
    ]
    for way, each in seconds.items():
        all_seconds = " ".join(f"{s:.2f}" for s in each)
        median = medians[way]
        lines.append(f"| {way} | {median:.2f} | {all_seconds} | {count / median:.1f} |")
    lines += [
        "",
        f"Two processes: {one / two:.2f} × one of one thread, {threaded / two:.2f} × one that has "
        "both cores as threads.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="for its own processes")
    parser.add_argument("--out", type=Path, default=Path("results/bench/processes.md"))
    args = parser.parse_args()
    if args.work is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        with launched_processes() as processes:
            work(processes, args.prompts, args.batch_size, args.work)
        return
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    texts: dict[str, set[str]] = {}
    for _ in range(args.rounds):
        for way in WAYS:
            took, written = launch(way, args.prompts, args.batch_size)
            seconds[way].append(took)
            for problem, text in written.items():
                texts.setdefault(problem, set()).add(text)
    differing = sum(len(variants) > 1 for variants in texts.values())
    command = f"python -m benchmarks.processes --prompts {args.prompts} "
    command += f"--batch-size {args.batch_size} --rounds {args.rounds}"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report(seconds, differing, len(texts), command))
    print(args.out.read_text())


if __name__ == "__main__":
    main()
