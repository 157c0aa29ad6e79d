"""The ladder, the launcher and the measurements."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import evaluator.judging.sandbox.sandbox as ladder
from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import SandboxError, SandboxUnavailableError
from evaluator.judging.compile_cpp import compile_cpp
from evaluator.judging.sandbox.blob import Blob
from evaluator.judging.sandbox.command import Command, Limits
from evaluator.judging.sandbox.sandbox import probe_sandbox
from tests.evaluator.judging.outside import descendants

LIMITS = Limits(
    cpu_ms=1000,
    wall_ms=3000,
    memory_kib=256 << 10,
    address_space_bytes=4 << 30,
    stack_bytes=64 << 20,
    file_bytes=1 << 20,
)
SHELL = dataclasses.replace(LIMITS, processes=256)
TOUCH = """
#include <cstdlib>
int main() {
    volatile char* p = static_cast<char*>(malloc(20 << 20));
    for (int i = 0; i < 20 << 20; i += 4096) p[i] = 1;
}
"""


@pytest.fixture(scope="module", params=["bwrap", "unshare", "unsafe"])
def rung(request):
    try:
        return probe_sandbox(unsafe=True, only=request.param)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def worker(rung):
    with rung.worker() as worker:
        yield worker


def build(worker, source):
    compiled = compile_cpp(worker, source, JudgeSettings())
    assert compiled.program is not None, compiled.message
    return compiled.program


def test_info_names_the_rung_and_the_compiler(rung):
    assert rung.info.compiler.startswith("g++")
    assert rung.info.rung == "unsafe" or rung.info.tool


def test_a_command_has_input_output_files_and_an_exit_code(worker):
    script = "cat; cat name; echo err >&2; exit 3"
    command = Command(
        ("/bin/sh", "-c", script), stdin=Blob.of(b"in\n"), files={"name": Blob.of(b"f\0")}
    )
    report = worker.run(command, SHELL)
    assert (report.exit_code, report.signal, report.reason) == (3, None, "exit")
    assert (report.stdout, report.stderr) == (b"in\nf\0", b"err\n")


def test_the_same_blob_can_be_read_again(worker):
    text = Blob.of(b"again")
    for _ in range(2):
        assert worker.run(Command(("/bin/cat",), stdin=text), SHELL).stdout == b"again"


def test_nothing_stays_in_the_box(worker):
    first = worker.run(Command(("/bin/sh", "-c", "echo x > left; pwd")), SHELL)
    second = worker.run(Command(("/bin/sh", "-c", "ls; pwd")), SHELL)
    assert first.exit_code == 0
    assert b"left" not in second.stdout
    box = Path(first.stdout.decode().strip())
    assert not box.exists()


def test_a_signal_is_told_from_an_exit_code(worker):
    killed = worker.run(Command(("/bin/sh", "-c", "kill -ABRT $$")), SHELL)
    exited = worker.run(Command(("/bin/sh", "-c", "exit 134")), SHELL)
    assert (killed.exit_code, killed.signal) == (None, 6)
    assert (exited.exit_code, exited.signal) == (134, None)


def test_no_descriptor_reaches_a_program_whatever_its_number(rung):
    """Not the judge's own sockets either, which a judge with many open files has high up."""
    scan = """
#include <cstdio>
#include <fcntl.h>
int main() {
    for (int fd = 3; fd < 5000; ++fd) if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
}
"""
    held = [os.dup(0) for _ in range(400)]
    try:
        with rung.worker() as worker:
            report = worker.run(Command(("p",), program=build(worker, scan)), LIMITS)
    finally:
        for fd in held:
            os.close(fd)
    assert (report.exit_code, report.stdout) == (0, b"")


def test_a_command_that_cannot_start_is_the_sandbox_s_failure(worker):
    with pytest.raises(SandboxError, match="exec"):
        worker.run(Command(("/no/such/program",)), SHELL)
    assert worker.run(Command(("/bin/true",)), SHELL).exit_code == 0


def test_a_program_that_cannot_start_is_to_blame_unless_it_may_not_run_at_all(worker):
    program = Blob.of(b"neither ELF nor a script")
    report = worker.run(Command(("p",), program=program), LIMITS)
    assert (report.exit_code, report.stderr) == (127, b"cannot be started: Exec format error\n")
    Path(f"/proc/self/fd/{program.fd}").chmod(0o644)  # as where vm.memfd_noexec is set
    with pytest.raises(SandboxError, match="exec: Permission denied"):
        worker.run(Command(("p",), program=program), LIMITS)


def test_cpu_time_is_the_program_s_own(worker):
    program = build(
        worker,
        "#include <ctime>\nint main() { while (clock() < CLOCKS_PER_SEC / 5) {} }\n",
    )
    report = worker.run(Command(("p",), program=program), LIMITS)
    assert 195 < report.cpu_ms < 260
    assert worker.run(Command(("/bin/true",)), SHELL).cpu_ms < 50


def test_cpu_time_of_processes_that_were_killed_counts(worker):
    busy = "/bin/sh -c 'while :; do :; done'; exit"
    limits = dataclasses.replace(SHELL, cpu_ms=60_000, wall_ms=1000)
    report = worker.run(Command(("/bin/sh", "-c", busy)), limits)
    assert report.reason == "wall"
    assert report.cpu_ms > 50  # the first shell only waits; the machine may be busy


def test_memory_is_the_program_s_own(worker):
    program = build(worker, TOUCH)
    figures = [worker.run(Command(("p",), program=program), LIMITS).memory_kib for _ in range(2)]
    assert all(20 << 10 < kib < 25 << 10 for kib in figures)


def test_what_hides_by_double_fork_is_ended(worker):
    """Where processes are allowed (a compiler needs them), those that hide are killed too."""
    nap = f"100.{os.getpid()}"  # a number that no other test run looks for
    script = f"(setsid sleep {nap} & sleep {nap} & ) & echo started"
    report = worker.run(Command(("/bin/sh", "-c", script)), SHELL)
    assert report.stdout == b"started\n"
    assert report.wall_ms < 5000
    worker.close()
    assert not [pid for pid in all_processes() if f"sleep\x00{nap}\x00" in command_line(pid)]


def all_processes():
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_the_program_has_no_privileges(worker):
    report = worker.run(Command(("/bin/cat", "/proc/self/status")), SHELL)
    status = dict(line.split(":\t", 1) for line in report.stdout.decode().splitlines())
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_aborting_ends_a_run_at_once(rung):
    with rung.worker() as worker:
        timer = threading.Timer(0.5, worker.abort)
        timer.start()
        start = time.monotonic()
        with pytest.raises(SandboxError):
            worker.run(Command(("/bin/sleep", "60")), dataclasses.replace(SHELL, wall_ms=60_000))
        assert time.monotonic() - start < 5
        timer.join()


def test_a_launcher_that_dies_is_replaced(worker):
    assert worker.run(Command(("/bin/true",)), SHELL).exit_code == 0
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(SandboxError):
        worker.run(Command(("/bin/true",)), SHELL)
    assert worker.run(Command(("/bin/true",)), SHELL).exit_code == 0


def test_killing_the_judge_ends_its_programs(rung, tmp_path):
    """A judge that is killed cannot clean up; its programs must end all the same."""
    script = f"""
from evaluator.judging.sandbox.sandbox import probe_sandbox
from evaluator.judging.sandbox.command import Command, Limits
limits = Limits(60000, 60000, None, 1 << 30, 8 << 20, 1 << 20, processes=256)
with probe_sandbox(unsafe=True, only={rung.info.rung!r}).worker() as worker:
    worker.run(Command(("/bin/true",)), limits)
    print(worker._process.pid, flush=True)
    worker.run(Command(("/bin/sh", "-c", "sleep 60")), limits)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env) as judge:
        launcher = int(judge.stdout.readline())
        family = family_with(launcher, "sleep\x0060\x00")
        judge.kill()
    deadline = time.monotonic() + 5
    while (alive := living(family)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive


def family_with(pid, command):
    """A process and those below it, each with its start time, once one of them runs a command."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [pid, *descendants(pid)]
        if any(command_line(process) == command for process in found):
            return {process: start_of(process) for process in found}
        time.sleep(0.02)
    pytest.fail("the command did not start")


def stat_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def start_of(pid):
    stat = stat_of(pid)
    return stat and stat[19]


def living(family):
    """Those that have not ended; the number of one that has may be another's by now."""
    stats = {pid: stat_of(pid) for pid in family}
    return [
        p for p, stat in stats.items() if stat and stat[0] not in "ZX" and stat[19] == family[p]
    ]


def test_ladder_takes_the_first_rung_that_works():
    assert probe_sandbox(unsafe=True).info.rung in ("bwrap", "unshare", "unsafe")


def test_without_bubblewrap_the_next_rung_is_taken(monkeypatch):
    def absent(limits):
        return ["/nowhere/bwrap"]

    monkeypatch.setitem(ladder._RUNGS, "bwrap", (absent, "ready"))
    sandbox = probe_sandbox(unsafe=True)
    assert sandbox.info.rung in ("unshare", "unsafe")
    assert "not installed" in sandbox.info.refused[0]


def test_without_any_rung_the_way_out_is_named(monkeypatch):
    def broken(limits):
        return ["/bin/false"]

    for rung in ("bwrap", "unshare"):
        monkeypatch.setitem(ladder._RUNGS, rung, (broken, "ready"))
    with pytest.raises(SandboxUnavailableError, match="(?s)bubblewrap.*--unsafe"):
        probe_sandbox()
    assert probe_sandbox(unsafe=True).info.rung == "unsafe"


def test_without_a_compiler_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailableError, match="apt-get install g\\+\\+"):
        probe_sandbox()


def test_unsafe_has_to_be_asked_for():
    with pytest.raises(SandboxUnavailableError):
        probe_sandbox(only="unsafe")


def test_the_launcher_is_a_small_process():
    """It must import nothing large: its memory is the floor of a fork."""
    source = Path(ladder.__file__).with_name("launcher.py").read_text()
    assert (
        "torch" not in source
        and "from evaluator" not in source
        and "import evaluator" not in source
    )
