"""The sandbox ladder: which walls this machine has, tried from the best to the worst.

1. ``bwrap``: bubblewrap.
2. ``unshare``: util-linux ``unshare``; the supervisor builds the file system itself.
3. ``unsafe``: resource limits and process-group kill alone; only on explicit request.

On the first two a program has its own user, mount, network, PID and IPC namespaces; it sees
``/usr`` (read-only), a few device nodes, the names of its streams below ``/dev``, its own
``/proc``, an empty folder in memory for at most 16384 files, a ``/tmp`` for files without a name
(``tmpfile()``), and nothing else of the host. Everywhere it runs without capabilities or new
privileges, as an ordinary user (a judge started by root gives root up first), under resource
limits, and behind a seccomp list that denies sockets, tracing, mounts, namespaces and shared
memory.

What this does NOT protect from:

* bugs of the kernel: a program talks to the host's kernel, which is no virtual machine;
* side channels (timing, caches) and what ``/usr`` and ``/proc`` tell about the machine;
* load: a program's CPU time is bounded, but several judges on one machine slow each other down;
* tests of one program from each other: they share a sandbox as long as each ends by itself and
  leaves no process and no file (what is left to talk through are attributes of the folder);
* memory beyond one program's limit for an instant: residency is looked at every 5 ms (control
  groups would be exact, but need rights that an ordinary user lacks), up to 4 GiB on top;
* on the ``unsafe`` rung: reading every file that its user may read, signals to that user's other
  processes, files written outside of its folder, and any number of files in it.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from evaluator.errors import SandboxError, SandboxUnavailableError
from evaluator.judging.sandbox.command import Command, Limits, MemoryFile
from evaluator.judging.sandbox.worker import SandboxWorker
from tinylora.files.scratch import scratch_directory

RungName = Literal["bwrap", "unshare", "unsafe"]

# Who a judge that root started becomes. It is nobody's account, so that RLIMIT_NPROC binds and no
# file belongs to it; below 2**16 for containers that map only so many ids.
SANDBOX_UID = 64999

_PACKAGES = "on Debian and Ubuntu: apt-get install g++ bubblewrap util-linux"
_TRIAL = "test ! -e /etc/shadow && test ! -e /home && test ! -w / && echo x > y && cat y"
_TRIAL_UNSAFE = "echo x > y && cat y"
_TRIAL_LIMITS = Limits(5000, 15_000, None, 1 << 30, 8 << 20, 1 << 20, processes=256)


@dataclass(frozen=True)
class SandboxInfo:
    """What a run records: the rung, version lines, and why better rungs do not work here."""

    rung: RungName
    tool: str
    compiler: str
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Sandbox:
    """A rung that works on this machine."""

    info: SandboxInfo
    supervisor: MemoryFile

    def worker(self) -> SandboxWorker:
        """Make a worker; one for each thread that runs programs."""
        command_line = partial(_command_line, self.info.rung, self.supervisor)
        return SandboxWorker(command_line, self.supervisor)


def probe_sandbox(unsafe: bool = False, only: RungName | None = None) -> Sandbox:
    """Find the best rung that works here, or see to one alone, by running a command on it.

    The rung ``unsafe`` is tried last, and only where it is allowed. SandboxUnavailableError where
    there is no compiler, or no allowed rung works.
    """
    if shutil.which("g++") is None:
        raise SandboxUnavailableError(f"g++ is not installed; {_PACKAGES}")
    supervisor = _compile_supervisor()
    refused: list[str] = []
    for rung in get_args(RungName):
        if (only is not None and rung != only) or (rung == "unsafe" and not unsafe):
            continue
        tool = "" if rung == "unsafe" else _version(rung)
        sandbox = Sandbox(SandboxInfo(rung, tool, _version("g++"), tuple(refused)), supervisor)
        if (reason := _why_not(sandbox)) is None:
            return sandbox
        refused.append(f"{rung}: {reason}")
    reasons = "; ".join(refused) or "none was allowed"
    if "setpriv: setres" in reasons:
        raise SandboxUnavailableError(
            f"no sandbox works here: the judge is root and may not become another user ({reasons})."
            " Start it as an ordinary user (docker run --user 1000), or give its container the "
            "capabilities CAP_SETUID and CAP_SETGID (docker run --cap-add SETUID --cap-add SETGID)"
        )
    remedy = f"Install bubblewrap ({_PACKAGES}) and allow unprivileged user namespaces"
    trust = "or, if you trust every program that will be judged, pass --unsafe"
    raise SandboxUnavailableError(f"no sandbox works here ({reasons}). {remedy}, {trust}")


def _command_line(rung: RungName, supervisor: MemoryFile, limits: Limits) -> list[str]:
    """The command line that gives root up, builds the walls and starts the supervisor."""
    identity = [f"--reuid={SANDBOX_UID}", f"--regid={SANDBOX_UID}", "--clear-groups", "--"]
    drop_root = [_tool("setpriv"), *identity] if os.getuid() == 0 else []
    settings = [rung, str(limits.box_bytes), str(int(limits.contest))]
    return [*drop_root, *_walls(rung, limits), f"/proc/self/fd/{supervisor.fd}", *settings]


def _walls(rung: RungName, limits: Limits) -> list[str]:
    """The tool that makes the namespaces; the supervisor mounts the folder, to bound its files."""
    if rung == "unsafe":
        return []
    if rung == "unshare":
        spaces = ["--user", "--map-root-user", "--mount", "--net", "--ipc", "--uts", "--pid"]
        return [_tool("unshare"), *spaces, "--fork", "--kill-child=KILL", "--"]
    argv = [_tool("bwrap"), "--unshare-all", "--as-pid-1", "--cap-add", "CAP_SYS_ADMIN"]
    argv += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), f"/{name}"]
        else:
            argv += ["--ro-bind-try", f"/{name}", f"/{name}"]
    for etc in ("/etc/ld.so.cache", "/etc/alternatives"):
        argv += ["--ro-bind-try", etc, etc]
    for device in ("null", *(("zero", "full", "random", "urandom") if limits.contest else ())):
        argv += ["--dev-bind-try", f"/dev/{device}", f"/dev/{device}"]
    return [*argv, "--proc", "/proc", "--"]


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SandboxError(f"{name} is not installed")
    return path


def _why_not(sandbox: Sandbox) -> str | None:
    """Run a command in a sandbox; None if all is well, else what is wrong."""
    trial = _TRIAL_UNSAFE if sandbox.info.rung == "unsafe" else _TRIAL
    with sandbox.worker() as worker:
        try:
            report = worker.run(Command(("/bin/sh", "-c", trial)), _TRIAL_LIMITS)
        except SandboxError as error:
            return str(error)
    if report.exit_code != 0 or report.stdout != b"x\n":
        return f"a trial command failed ({report.exit_code}, {report.signal}): {report.stderr!r}"
    return None


def _version(tool: str) -> str:
    """The first line of what a tool says of its version, if it is installed."""
    if shutil.which(tool) is None:
        return ""
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _compile_supervisor() -> MemoryFile:
    """Compile the supervisor, statically where the static libraries are there."""
    source = Path(__file__).with_name("supervisor") / "main.cpp"
    errors = ""
    with scratch_directory("supervisor") as folder:
        target = folder / "supervisor"
        for mode in (["-static"], []):
            argv = ["g++", "-std=c++14", "-O2", *mode, "-o", os.fspath(target), os.fspath(source)]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return MemoryFile.of(target.read_bytes(), "supervisor")
            errors = done.stderr
    raise SandboxUnavailableError(f"g++ cannot compile {source} ({_PACKAGES}): {errors[-600:]}")
