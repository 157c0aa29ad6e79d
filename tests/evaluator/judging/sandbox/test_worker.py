"""Which commands share a sandbox: runs of one program, and only while each leaves it clean."""

import dataclasses
from pathlib import Path

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import SandboxError, SandboxUnavailableError
from evaluator.judging.compile_cpp import compile_cpp
from evaluator.judging.sandbox.blob import Blob
from evaluator.judging.sandbox.command import Command, Limits
from evaluator.judging.sandbox.sandbox import probe_sandbox
from evaluator.judging.sandbox.worker import SandboxWorker

LIMITS = Limits(
    cpu_ms=200,
    wall_ms=600,
    memory_kib=64 << 10,
    address_space_bytes=4 << 30,
    stack_bytes=8 << 20,
    file_bytes=1 << 20,
)
# Does what its input says, and says what it finds in its folder.
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


@pytest.fixture(scope="module", params=["bwrap", "unshare", "unsafe"])
def rung(request):
    try:
        return probe_sandbox(unsafe=True, only=request.param)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def program(rung):
    with rung.worker() as worker:
        compiled = compile_cpp(worker, SOURCE, JudgeSettings())
    assert compiled.program is not None, compiled.message
    return compiled.program


@pytest.fixture
def worker(rung, monkeypatch):
    """A worker that counts the sandboxes it has built, as ``built``."""
    launch = SandboxWorker._launch

    def counted(self, *arguments):
        self.built += 1
        launch(self, *arguments)

    monkeypatch.setattr(SandboxWorker, "built", 0, raising=False)
    monkeypatch.setattr(SandboxWorker, "_launch", counted)
    with rung.worker() as worker:
        yield worker


def run(worker, program, what="", **files):
    blobs = {name: Blob.of(data) for name, data in files.items()}
    command = Command(("p",), program=program, stdin=Blob.of(what.encode()), files=blobs)
    return worker.run(command, LIMITS)


def test_clean_runs_share_a_room(worker, program):
    """A crash leaves it clean, too; standard output and files are those of each run."""
    assert run(worker, program).stdout == b""
    assert run(worker, program, "s").signal == 11
    assert run(worker, program, a=b"1").stdout == b"a\n"
    assert run(worker, program, b=b"2").stdout == b"b\n"
    assert worker.built == 1


@pytest.mark.parametrize("deed", ["f", "h", "d", "c", "l"])
def test_a_room_that_is_not_clean_is_left(worker, program, deed):
    run(worker, program, deed)
    assert run(worker, program).stdout == b""
    assert worker.built == 2


def test_other_programs_have_other_rooms(worker, program):
    """Two are kept, for a program and the special judge that is asked after each of its tests."""
    second, third = (Blob.of(program.read()) for _ in range(2))
    for blob in (program, second) * 3:
        run(worker, blob)
    assert worker.built == 2
    run(worker, third)
    run(worker, second)
    assert worker.built == 3
    run(worker, program)
    assert worker.built == 4


def test_commands_of_the_system_get_a_room_each(worker):
    for _ in range(2):
        worker.run(Command(("/bin/true",)), dataclasses.replace(LIMITS, processes=64))
    assert worker.built == 2


def test_a_file_that_does_not_fit_gets_a_larger_room(worker, program):
    small, large = b"1", b"1" * (64 << 20)
    for data in (small, large):
        assert run(worker, program, a=data).stdout == b"a\n"
    assert worker.built == 2


def test_other_limits_hold_in_the_same_room(worker, program):
    run(worker, program)
    report = worker.run(Command(("p",), program=program), dataclasses.replace(LIMITS, cpu_ms=100))
    assert report.exit_code == 0
    tight = dataclasses.replace(LIMITS, cpu_ms=50, wall_ms=5000)
    looping = Command(("p",), program=program, stdin=Blob.of(b"l"))
    report = worker.run(looping, tight)
    assert (report.reason, worker.built) == ("cpu", 1)
    assert 50 < report.cpu_ms < 150


def test_after_a_failure_everything_is_new(worker, program):
    run(worker, program)
    before = open_descriptors()
    with pytest.raises(SandboxError, match="exec"):
        worker.run(Command(("/no/such/command",)), LIMITS)
    assert run(worker, program).exit_code == 0
    assert open_descriptors() <= before


def open_descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
