"""What a command gets, what is measured of it, and that it ends with its judge."""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from evaluator.errors import SandboxError
from evaluator.judging.sandbox.command import Command, MemoryFile
from tests.evaluator.judging.outside import LIMITS, command_line, descendants
from tinylora.files.scratch import scratch_directory

SHELL = dataclasses.replace(LIMITS, processes=256)
TOUCH = """
static volatile char a[20 << 20];
int main() { for (int i = 0; i < 20 << 20; i += 4096) a[i] = 1; }
"""


def shell(worker, script, **fields):
    limits = dataclasses.replace(SHELL, **fields)
    return worker.run(Command(("/bin/sh", "-c", script)), limits)


def test_command_has_input_output_files_and_exit_code(worker):
    text = MemoryFile.of(b"in\n")
    script = "cat; cat name; echo err >&2; exit 3"
    files = {"name": MemoryFile.of(b"f\0")}
    for _ in range(2):  # the input can be read again
        report = worker.run(Command(("/bin/sh", "-c", script), stdin=text, files=files), SHELL)
        assert (report.exit_code, report.signal, report.reason) == (3, None, "exit")
        assert (report.stdout, report.stderr) == (b"in\nf\0", b"err\n")


def test_nothing_stays_in_the_private_folder(worker):
    first = shell(worker, "echo x > left; pwd")
    assert first.exit_code == 0
    assert b"left" not in shell(worker, "ls; pwd").stdout
    assert not Path(first.stdout.decode().strip()).exists()


def test_no_descriptor_reaches_a_program(rung, build):
    """Not the judge's own sockets either, which a judge with many open files has high up."""
    program = build("""
#include <cstdio>
#include <fcntl.h>
int main() {
    for (int fd = 3; fd < 5000; ++fd) if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
}
""")
    held = [os.dup(0) for _ in range(400)]
    os.set_inheritable(held[-1], True)
    try:
        with rung.worker() as worker:
            report = worker.run(Command(("p",), program=program), LIMITS)
    finally:
        for fd in held:
            os.close(fd)
    assert (report.exit_code, report.stdout) == (0, b"")


def test_failed_exec_is_the_error_of_the_sandbox_or_of_a_program(worker):
    with pytest.raises(SandboxError, match="exec"):
        worker.run(Command(("/no/such/program",)), SHELL)
    assert shell(worker, "true").exit_code == 0
    program = MemoryFile.of(b"neither ELF nor a script")
    report = worker.run(Command(("p",), program=program), LIMITS)
    assert (report.exit_code, report.stderr) == (127, b"cannot be started: Exec format error\n")
    Path(f"/proc/self/fd/{program.fd}").chmod(0o644)  # as where vm.memfd_noexec is set
    with pytest.raises(SandboxError, match="exec: Permission denied"):
        worker.run(Command(("p",), program=program), LIMITS)


def test_cpu_time_of_killed_processes_counts(worker):
    busy = "/bin/sh -c 'while :; do :; done'; exit"
    report = shell(worker, busy, cpu_ms=60_000, wall_ms=1000)
    assert report.reason == "wall"
    assert report.cpu_ms > 50  # the first shell only waits; the machine may be busy


def test_memory_is_the_program_s_own_whatever_the_judge_holds(worker, build):
    command = Command(("p",), program=build(TOUCH))
    small = worker.run(command, LIMITS).memory_kib
    worker.close()
    ballast = b"x" * (1 << 29)
    large = worker.run(command, LIMITS).memory_kib
    assert len(ballast) == 1 << 29  # held until here
    assert 20 << 10 < small < 24 << 10
    assert large == pytest.approx(small, abs=2048)


def test_double_fork_does_not_hide_a_process(worker):
    """Where processes are allowed (a compiler needs them), those that hide are killed too."""
    nap = f"100.{os.getpid()}"  # a number that no other test run looks for
    report = shell(worker, f"(setsid sleep {nap} & sleep {nap} & ) & echo started")
    assert report.stdout == b"started\n"
    assert report.wall_ms < 5000
    worker.close()
    pids = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    assert not [pid for pid in pids if f"sleep\0{nap}\0" in command_line(pid)]


def test_program_has_no_privileges(worker):
    report = worker.run(Command(("/bin/cat", "/proc/self/status")), SHELL)
    status = dict(line.split(":\t", 1) for line in report.stdout.decode().splitlines())
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


@contextmanager
def busy_judge(rung):
    """The process of a judge whose program sleeps."""
    nap = f"200.{os.getpid()}"
    script = f"""
from evaluator.judging.sandbox.sandbox import probe_sandbox
from evaluator.judging.sandbox.command import Command, Limits
limits = Limits(60000, 60000, None, 1 << 30, 8 << 20, 1 << 20, processes=256)
with probe_sandbox(unsafe=True, only={rung!r}).worker() as worker:
    worker.run(Command(("/bin/sh", "-c", "sleep {nap}")), limits)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], env=env) as judge:
        deadline = time.monotonic() + 20
        while not any(f"sleep\0{nap}" in command_line(p) for p in descendants(judge.pid)):
            assert time.monotonic() < deadline, "the command did not start"
            time.sleep(0.02)
        yield judge


def wait_for_the_end_of(family):
    deadline = time.monotonic() + 5
    while any(map(command_line, family)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [command_line(pid) for pid in family if command_line(pid)]


def test_killed_judge_ends_its_programs(rung):
    """A judge that is killed cannot clean up; its programs must end all the same."""
    with busy_judge(rung.info.rung) as judge:
        family = descendants(judge.pid)
        judge.kill()
    wait_for_the_end_of(family)


def test_what_everybody_killed_left_goes_at_the_next_start(tmp_path, monkeypatch):
    """On the rung without walls, whose folders are the host's, whatever ``TMPDIR`` is."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with busy_judge("unsafe") as judge:
        programs = descendants(judge.pid)
        family = [judge.pid, *programs]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)  # so that none tidies up after another
        folders = {Path(f"/proc/{pid}/cwd").readlink() for pid in programs}
        left = [path for path in folders if path.name.startswith("tinylora-judge-")]
        assert left and all(path.is_dir() for path in left)
        for pid in family:
            with suppress(ProcessLookupError):  # it ended with the one before
                os.kill(pid, signal.SIGKILL)
    wait_for_the_end_of(programs)
    with scratch_directory("next"):
        assert not [path for path in left if path.exists()]
