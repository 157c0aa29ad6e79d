"""Judging one attack, and what it may have left behind."""

import contextlib
from pathlib import Path

from evaluator.judge import JudgeJob, judge_jobs
from evaluator.judge_settings import JudgeSettings
from evaluator.problem import Problem, TestCase

SETTINGS = JudgeSettings(
    workers=1,
    compile_cpu_ms=2500,
    compile_wall_ms=30_000,
    compile_memory_kib=768 << 10,
    output_kib=1 << 10,
)
HEAD = """
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <initializer_list>
#include <sys/stat.h>
#include <unistd.h>
"""


def our_children():
    """Pids of this process's children, dead or alive."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        # a thread that ends meanwhile has no children any more
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def litter():
    """Files that an attack might leave in the usual writable places."""
    places = [Path(place) for place in ("/tmp", "/var/tmp", "/dev/shm") if Path(place).is_dir()]
    names = (name for place in places for name in place.iterdir())
    return {name for name in names if name.name.startswith("tinylora-attack")}


def open_descriptors():
    """Number of this process's descriptors."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def judge(rung, code, *, inp="", answer="ok\n", memory_kib=64 << 10, settings=SETTINGS):
    """Judge one program on one test with 300 ms of CPU time."""
    problem = Problem("attack", "", (TestCase("1", inp, answer),), 300, memory_kib)
    [(_, verdict)] = judge_jobs([JudgeJob(("a",), problem, code)], settings, rung)
    return verdict


def run(rung, body, **options):
    """Judge a main function; gives the only test's verdict."""
    verdict = judge(rung, f"{HEAD}\nint main() {{ {body} }}\n", **options)
    assert verdict.verdict != "CE", verdict.compile_message
    return verdict.tests[0]
