"""The judge's throughput beside the same programs run bare, with the same parallelism.

    python -m benchmarks.judge_throughput [--quick]

Two tasks, on each rung of the sandbox that works here. "tests": a compiled program of 50 ms of
CPU time is run on one test after the other, by one thread a core; bare, each run is a
``posix_spawn`` with its input and output in files and nothing watched, compared or kept.
"programs": whole jobs, which compile a program and run it on ten tests; bare, ``g++`` with the same
flags and the same runs. The sides take turns. Writes results/bench/judge.md.
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

from benchmarks.measure import Row, alternate, markdown
from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import SandboxUnavailableError
from evaluator.judging.compare_output import compare_lines
from evaluator.judging.compile_cpp import compile_cpp
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.run_test import Submission, run_test
from evaluator.judging.sandbox.sandbox import Sandbox, probe_sandbox
from evaluator.judging.shared_machine import SharedMachine
from evaluator.judging.verdicts import Decision
from evaluator.suites.problem import Problem, TestCase

MS = 50
WORKERS = len(os.sched_getaffinity(0))
SETTINGS = JudgeSettings(workers=WORKERS)
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


class Bare:
    """Compiles and runs programs without any judge, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = self.compile(SOURCE)

    def compile(self, source: str) -> Path:
        """Compile with the judge's flags."""
        path = self.folder / f"p{next(numbers)}"
        flags = [f"-std={SETTINGS.standard}", *SETTINGS.compile_flags, "-w", "-x", "c++", "-"]
        argv = ["g++", *flags, "-o", str(path), *SETTINGS.link_flags]
        subprocess.run(argv, input=source.encode(), check=True)
        return path

    def run(self, program: Path, steps: int) -> tuple[float, str]:
        """Run once; gives the CPU seconds and the output."""
        name = self.folder / f"t{next(numbers)}"
        name.write_text(f"{steps}\n")
        out = name.with_suffix(".out")
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, str(name), os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT, 0o600),
        ]
        # a session of its own, as the judge's programs have: a scheduler that shares the
        # processor among sessions would favour one side on a busy machine
        pid = os.posix_spawn(program, [program], {}, file_actions=actions, setsid=True)
        _, status, usage = os.wait4(pid, 0)
        assert status == 0, status
        text = out.read_text()
        name.unlink()
        out.unlink()
        return usage.ru_utime + usage.ru_stime, text

    def steps_of(self, seconds: float) -> int:
        """How many steps of the program take so long."""
        steps = 20_000_000
        return int(steps * seconds / min(self.run(self.program, steps)[0] for _ in range(5)))


def in_parallel(work: Callable[[int], object], times: int) -> None:
    """Call a function for 0, 1, ... from one thread a core."""
    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(work, range(times)))


def bare_programs(bare: Bare, programs: int, steps: int, tests: int) -> None:
    """Compile and run as many programs."""

    def one(_: int) -> None:
        program = bare.compile(SOURCE)
        for _ in range(tests):
            bare.run(program, steps)

    in_parallel(one, programs)


def judged_programs(sandbox: Sandbox, problem: Problem, programs: int) -> None:
    """Judge as many programs, of which no two are equal."""
    jobs = [JudgeJob((str(n),), problem, f"{SOURCE}// {next(numbers)}\n") for n in range(programs)]
    assert all(verdict.passed for _, verdict in judge_jobs(jobs, SETTINGS, sandbox))


def judged_tests(sandbox: Sandbox, problem: Problem, times: int) -> Callable[[], None]:
    """A function that runs one compiled program on as many tests, by a worker a core."""
    machine = SharedMachine()
    workers = [sandbox.worker() for _ in range(WORKERS)]
    program = compile_cpp(workers[0], SOURCE, SETTINGS).program
    assert program is not None

    def decide(_: bytes, output: bytes, answer: bytes) -> Decision:
        difference = compare_lines(output, answer)
        return Decision("AC", 1.0, "") if difference is None else Decision("WA", 0.0, difference)

    def share(n: int) -> None:
        submission = Submission(program, problem, decide, SETTINGS, machine, workers[n])
        for _ in range(times // WORKERS):
            verdict = run_test(submission, problem.tests[0], decides=True)
            assert verdict.verdict == "AC", verdict

    return lambda: in_parallel(share, WORKERS)


def compared(rows: list[Row], runs: int) -> list[Row]:
    """Say in each row how it stands beside the bare one, the first."""
    bare = rows[0].median
    noted = [replace(rows[0], note=f"{runs / bare:.1f} tests a second")]
    for row in rows[1:]:
        overhead = (row.median - bare) * WORKERS / runs * 1000
        noted.append(
            replace(row, note=f"{bare / row.median:.1%} of bare, {overhead:+.2f} ms a test")
        )
    return noted


def ladder() -> dict[str, Sandbox]:
    """The rungs that work here."""
    found = {}
    for rung in ("bwrap", "unshare"):
        try:
            found[rung] = probe_sandbox(only=rung)
        except SandboxUnavailableError as error:
            print(f"skipped: {error}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs, to see that it works")
    parser.add_argument("--out", type=Path, default=Path("results/bench/judge.md"))
    args = parser.parse_args()
    rounds, runs, programs = (1, 2 * WORKERS, WORKERS) if args.quick else (5, 40, 4)
    runs -= runs % WORKERS
    rungs = ladder()
    with tempfile.TemporaryDirectory() as folder:
        bare = Bare(Path(folder))
        steps = bare.steps_of(MS / 1000)
        answer = bare.run(bare.program, steps)[1]
        tests = tuple(TestCase(str(n), f"{steps}\n", answer) for n in range(10))
        problem = Problem("p", "", tests)
        alone: dict[str, Callable[[], object]] = {
            "bare": lambda: in_parallel(lambda _: bare.run(bare.program, steps), runs)
        }
        whole: dict[str, Callable[[], object]] = {
            "bare": lambda: bare_programs(bare, programs, steps, len(tests))
        }
        for name, rung in rungs.items():
            alone[f"judge, {name}"] = judged_tests(rung, problem, runs)
            whole[f"judge, {name}"] = lambda rung=rung: judged_programs(rung, problem, programs)
        rows = compared(alternate(f"{runs} tests of {MS} ms", alone, rounds), runs)
        task = f"{programs} programs, {len(tests)} tests each"
        rows += compared(alternate(task, whole, rounds), programs * len(tests))
    command = "python -m benchmarks.judge_throughput" + (" --quick" if args.quick else "")
    text = markdown(f"Judge beside bare programs, {WORKERS} at a time", command, rows)
    versions = "; ".join(f"{n}: {rung.info.tool}" for n, rung in rungs.items())
    compiler = next((rung.info.compiler for rung in rungs.values()), "")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(f"{text}\n{versions}; {compiler}.\n")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
