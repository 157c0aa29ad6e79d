"""Judge beside bare programs

    python -m benchmarks.judge_throughput

Programs are compiled and run on tests of 50 ms of CPU time, one program a core at a time: few with
many tests each and more with few. Bare, that is ``g++`` with the judge's flags, and for each test
a ``posix_spawn`` with its input and output in files and nothing watched, compared or kept. The
judge does the same on each rung of the sandbox that works here. The sides take turns.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.harness import alternate, parser, table, write_page
from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import SandboxUnavailableError
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.sandbox.sandbox import Sandbox, probe_sandbox
from evaluator.suites.problem import Problem, TestCase

MS = 50
WORKERS = len(os.sched_getaffinity(0))
SETTINGS = JudgeSettings(workers=WORKERS)
COLUMNS = ("task", "way", "median s", "best s", "tests a second", "of bare", "ms a test more")
SOURCE = """
#include <cstdio>
int main() {
    unsigned x = 1;
    long n;
    if (scanf("%ld", &n) != 1) return 1;
    for (long i = 0; i < n; ++i) x = x * 1664525u + 1013904223u;
    printf("%u\\n", x);
}
"""
numbers = count()


def compiled(folder: Path) -> Path:
    """The program, compiled with the judge's flags."""
    path = folder / f"p{next(numbers)}"
    flags = [f"-std={SETTINGS.standard}", *SETTINGS.compile_flags, "-w", "-x", "c++", "-"]
    argv = ["g++", *flags, "-o", str(path), *SETTINGS.link_flags]
    subprocess.run(argv, input=SOURCE.encode(), check=True)
    return path


def run(folder: Path, program: Path, steps: int) -> tuple[float, str]:
    """Run once; gives the CPU seconds and the output."""
    given = folder / f"t{next(numbers)}"
    given.write_text(f"{steps}\n")
    out = given.with_suffix(".out")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, str(given), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT, 0o600),
    ]
    # a session of its own, as the judge's programs have: a scheduler that shares the
    # processor among sessions would favour one side on a busy machine
    pid = os.posix_spawn(program, [program], {}, file_actions=actions, setsid=True)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, status
    return usage.ru_utime + usage.ru_stime, out.read_text()


def bare(folder: Path, programs: int, tests: int, steps: int) -> None:
    """Compile and run as many programs."""

    def one(_: int) -> None:
        program = compiled(folder)
        for _ in range(tests):
            run(folder, program, steps)

    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(one, range(programs)))


def judged(sandbox: Sandbox, problem: Problem, programs: int) -> None:
    """Judge as many programs, of which no two are equal."""
    jobs = [JudgeJob((str(n),), problem, f"{SOURCE}// {next(numbers)}\n") for n in range(programs)]
    assert all(verdict.verdict == "AC" for _, verdict in judge_jobs(jobs, SETTINGS, sandbox))


def rows(
    folder: Path, programs: int, tests: int, rungs: dict[str, Sandbox], rounds: int
) -> Iterator[tuple[str, ...]]:
    """The lines of so many programs with so many tests each."""
    steps, program = 20_000_000, compiled(folder)
    steps = int(steps * MS / 1000 / min(run(folder, program, steps)[0] for _ in range(5)))
    answer = run(folder, program, steps)[1]
    cases = tuple(TestCase(str(n), f"{steps}\n", answer) for n in range(tests))
    ways = {"bare": partial(bare, folder, programs, tests, steps)}
    for rung, box in rungs.items():
        ways[f"judge, {rung}"] = partial(judged, box, Problem("p", "", cases), programs)
    found = alternate(ways, rounds)
    runs, alone = programs * tests, median(found["bare"])
    for way, seconds in found.items():
        took = median(seconds)
        yield (f"{programs} programs, {tests} tests each", way, f"{took:.3f}",
               f"{min(seconds):.3f}", f"{runs / took:.1f}", f"{alone / took:.1%}",
               f"{(took - alone) * WORKERS / runs * 1000:+.2f}")  # fmt: skip


def main() -> None:
    args = parser(__doc__, "bench/judge.md", rounds=5).parse_args()
    rungs: dict[str, Sandbox] = {}
    for rung in ("bwrap", "unshare"):
        with suppress(SandboxUnavailableError):
            rungs[rung] = probe_sandbox(only=rung)
    with tempfile.TemporaryDirectory() as name:
        tasks = ((WORKERS, 40), (2 * WORKERS, 10))
        lines = [row for task in tasks for row in rows(Path(name), *task, rungs, args.rounds)]
    facts = [f"{name}: {rung.info.tool}; {rung.info.compiler}" for name, rung in rungs.items()]
    about = f"{WORKERS} at a time. {'; '.join(facts)}."
    write_page(args.out, __doc__, about, table(COLUMNS, lines))


if __name__ == "__main__":
    main()
