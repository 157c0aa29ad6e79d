"""Which commands share a sandbox: runs of one program, and only while each leaves it clean."""

import contextlib
import dataclasses
import threading
from pathlib import Path

import pytest

from evaluator.errors import SandboxError
from evaluator.judging.sandbox.command import Command, MemoryFile
from tests.evaluator.judging.outside import LIMITS

SMALL = dataclasses.replace(LIMITS, cpu_ms=200, wall_ms=600, memory_kib=64 << 10)
# Prints the files in its folder and, as an error, which sandbox it is in; then does what it reads.
SOURCE = """
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
int main() {
    DIR* d = opendir(".");
    while (dirent* e = readdir(d)) if (e->d_name[0] != '.') puts(e->d_name);
    fflush(stdout);
    char name[99] = {};
    if (readlink("/proc/self/ns/mnt", name, 98) > 0) fprintf(stderr, "%s %d", name, getppid());
    switch (getchar()) {
        case 'f': creat("file", 0600); break;
        case 'h': creat(".hidden", 0600); break;
        case 'd': mkdir("folder", 0); break;
        case 'c': chmod(".", 0); break;
        case 'l': for (;;) {}
        case 's': raise(SIGSEGV);
    }
}
"""


@pytest.fixture(scope="module")
def program(build):
    return build(SOURCE)


def run(worker, program, what="", limits=SMALL, **files):
    files = {name: MemoryFile.of(data) for name, data in files.items()}
    stdin = MemoryFile.of(what.encode())
    return worker.run(Command(("p",), program=program, stdin=stdin, files=files), limits)


def test_clean_runs_share_a_sandbox(worker, program):
    """A crash leaves it clean, too; standard output and files are those of each run."""
    first = run(worker, program)
    assert first.stdout == b"" and first.stderr
    crashed = run(worker, program, "s")
    assert (crashed.signal, crashed.stderr) == (11, first.stderr)
    for name in ("a", "b"):
        report = run(worker, program, **{name: b"1"})
        assert (report.stdout, report.stderr) == (f"{name}\n".encode(), first.stderr)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("deed", ["f", "h", "d", "c", "l"])
def test_sandbox_that_is_not_clean_is_left(worker, program, deed):
    run(worker, program, deed)
    assert run(worker, program).stdout == b""


def test_other_programs_have_other_sandboxes(worker, program):
    """Two are kept, for a program and the special judge that is asked after each of its tests."""
    other = MemoryFile.of(program.read())
    first, second = ([run(worker, p).stderr for p in (program, other)] for _ in range(2))
    assert first == second and first[0] != first[1]


def test_file_that_does_not_fit_gets_a_larger_sandbox(worker, program):
    for data in (b"1", b"1" * (64 << 20)):
        assert run(worker, program, a=data).stdout == b"a\n"


def test_other_limits_hold_in_the_same_sandbox(worker, program):
    first = run(worker, program)
    tight = dataclasses.replace(SMALL, cpu_ms=50, wall_ms=5000)
    report = run(worker, program, "l", tight)
    assert (report.reason, report.stderr) == ("cpu", first.stderr)
    assert 50 < report.cpu_ms < 150


def test_after_a_failure_everything_is_new(worker, program):
    run(worker, program)
    before = open_descriptors()
    with pytest.raises(SandboxError, match="exec"):
        worker.run(Command(("/no/such/command",)), LIMITS)
    assert run(worker, program).exit_code == 0
    assert open_descriptors() <= before


def test_sandbox_outlives_the_thread_that_started_it(worker, program):
    with contextlib.ExitStack() as stack:
        thread = threading.Thread(target=run, args=(worker, program))
        stack.callback(thread.join)
        thread.start()
    assert run(worker, program).exit_code == 0
