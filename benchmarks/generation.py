"""Generation: batches beside single prompts, processes beside one

    python -m benchmarks.generation [--rounds 3]

The demo base in 4 bits as the trainer loads it, computing in float32, writes greedy completions of
held-out problems. Each way is started as a user starts a run, alone or under torchrun, and goes
through the evaluator's own stage of generation; nothing is judged. Batches of one are the way of
upstream: one call of ``generate`` a prompt. Ways take turns. Batches are the time of the batches
alone, as the records say it, of the process that took longest; the whole command lasts from its
start over imports, loading and waiting for each other to the end of the last process. The texts
have to be the same.

It wants a quiet machine: beside another program two threads can be much slower than one.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.harness import ROOT, median, parser, table, watch, write_page
from evaluator.config.run_config import load_config
from evaluator.generation.processes import launched_processes
from evaluator.generation.stage import generate_share
from evaluator.run import prepare
from evaluator.store.run_directory import RunDirectory

BASE, SUITE = ROOT / "demo" / "base", ROOT / "demo" / "suite" / "heldout"
MAX_NEW_TOKENS = 192
COLUMNS = ("processes", "batches s", "speed", "whole command s", "speed", "different texts")


@dataclass(frozen=True)
class Way:
    """A number of processes, with as many threads each, and prompts a batch."""

    processes: int = 1
    threads: int = 1
    batch_size: int = 16

    @property
    def name(self) -> str:
        return f"{self.processes} × {self.threads} threads, {self.batch_size} a batch"


@dataclass(frozen=True)
class Run:
    """What one start of a way made.

    Attributes:
        batches: Seconds in batches of the process that took longest: all of them start together.
        whole: Seconds from the start of the command to its end.
        texts: Of all processes, by problem.
    """

    batches: float
    whole: float
    texts: Mapping[str, str]


def write_config(folder: Path, way: Way, prompts: int, max_new_tokens: int) -> Path:
    """A run of one arm on as many problems, spread over the suite."""
    suite = folder / "suite"
    shutil.copytree(SUITE, suite)
    rows = (suite / "problems.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    chosen = rows[:: max(1, len(rows) // prompts)][:prompts]
    (suite / "problems.jsonl").write_text("".join(chosen), encoding="utf-8")
    config = {
        "name": "generation",
        "suite": str(suite),
        "out": str(folder / "out"),
        "arms": [{"name": "base", "kind": "base", "model": str(BASE), "load": "nf4"}],
        "decoding": {"max_new_tokens": max_new_tokens, "batch_size": way.batch_size},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def write_share(config_file: Path) -> None:
    """What each process does: ``tinylora-eval run`` from its launch to the last completion."""
    config = load_config(config_file)
    config.out.mkdir(exist_ok=True)
    with launched_processes() as processes:
        ready = prepare(config)
        generate_share(RunDirectory(config.out), ready, processes, lambda *_: None)
        processes.wait()


def start(way: Way, prompts: int, max_new_tokens: int = MAX_NEW_TOKENS) -> Run:
    """Start a way, wait for its end and read what it wrote."""
    with tempfile.TemporaryDirectory() as name:
        config = write_config(Path(name), way, prompts, max_new_tokens)
        command = ["-m", "benchmarks.generation", "--child", str(config)]
        if way.processes > 1:
            torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node"]
            command = ["-m", *torchrun, str(way.processes), *command]
        return read_run(Path(name) / "out", watch([sys.executable, *command], way.threads).seconds)


def read_run(out: Path, whole: float) -> Run:
    """The files that the processes of a way left; each process has its own.

    Raises:
        RuntimeError: Work was done twice.
    """
    files = sorted(out.glob("generations*.jsonl"))
    shares = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    longest = max(sum(record["seconds"] for record in share) for share in shares)
    texts = {record["problem"]: record["text"] for share in shares for record in share}
    if len(texts) < sum(map(len, shares)):
        raise RuntimeError(f"{out}: two processes wrote a completion of the same prompt")
    return Run(longest, whole, texts)


def in_turn(ways: Sequence[Way], prompts: int, rounds: int) -> dict[Way, list[Run]]:
    """All ways, once a round."""
    found: dict[Way, list[Run]] = {way: [] for way in ways}
    start(ways[0], 1)  # files of all imports come into the page cache
    for _ in range(rounds):
        for way, runs in found.items():
            runs.append(start(way, prompts))
    return found


def rows(found: Mapping[Way, Sequence[Run]]) -> Iterator[tuple[str, ...]]:
    """Each way beside the first."""
    first = next(iter(found.values()))
    texts = first[0].texts.items()
    for way, runs in found.items():
        cells = [way.name]
        for part in ("batches", "whole"):
            seconds = median(runs, part)
            cells += [f"{seconds:.2f}", f"{median(first, part) / seconds:.2f} ×"]
        different = max(sum(run.texts.get(name) != text for name, text in texts) for run in runs)
        yield (*cells, f"{different} of {len(texts)}")


def main() -> None:
    options = parser(__doc__, "bench")
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.child is not None:
        write_share(args.child)
        return
    batches = [Way(batch_size=size) for size in (1, 16, 32, 64)]
    processes = [Way(), Way(threads=2), Way(processes=2)]
    pages = (("generation.md", batches, 64), ("generation_processes.md", processes, 256))
    for page, ways, prompts in pages:
        lines = list(rows(in_turn(ways, prompts, args.rounds)))
        write_page(args.out / page, __doc__, table(COLUMNS, lines))
        if not all(line[-1].startswith("0 of") for line in lines):
            raise SystemExit("texts differ from those of the first way")


if __name__ == "__main__":
    main()
