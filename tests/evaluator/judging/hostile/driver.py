"""Judges the whole corpus on one rung, several attacks at a time, and looks what is left.

Run as ``python -m tests.evaluator.judging.hostile.driver RUNG``, by any user; writes JSON.
It needs the standard library alone, so that any Python can run it.
"""

import ctypes
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import SandboxUnavailableError
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.sandbox.sandbox import Sandbox, probe_sandbox
from evaluator.suites.problem import Problem, TestCase
from tests.evaluator.judging.hostile.attack import ANSWER_FILE, IPC_KEY, MARK, PORT, Attack, main
from tests.evaluator.judging.hostile.compile_time import COMPILE_TIME
from tests.evaluator.judging.hostile.run_time import RUN_TIME

MEMORY_KIB = 64 << 10
SETTINGS = JudgeSettings(
    workers=1, compile_wall_ms=30_000, compile_memory_kib=768 << 10, output_kib=1 << 10
)
# What a bomb may cost; an honest program would need more on a slow machine.
BOMB_SETTINGS = replace(SETTINGS, compile_cpu_ms=1000)
PR_SET_CHILD_SUBREAPER = 36


def judge(sandbox: Sandbox, attack: Attack, answer_file: Path) -> dict[str, object]:
    """Judge one attack, by a judge of its own."""
    test = TestCase("1", "", attack.answer)
    problem = Problem(attack.name, "", (test,), attack.time_limit_ms, MEMORY_KIB)
    code = attack.code.replace(ANSWER_FILE, str(answer_file))
    settings = BOMB_SETTINGS if attack.verdict == "CE" else SETTINGS
    start = time.monotonic()
    [(_, verdict)] = judge_jobs([JudgeJob(("a",), problem, code)], settings, sandbox)
    return {**asdict(verdict), "seconds": time.monotonic() - start}


def census() -> set[str]:
    """Name everything of this process, or marked by an attack, that could be left behind."""
    return _descendants() | _descriptors() | _files() | _sockets() | _ipc()


def _descendants() -> set[str]:
    """Processes below this one, dead or alive; as a subreaper it inherits the orphans too."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):  # it ended in the meantime
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {int(Path("/proc/self").readlink().name)}
    root = set(found)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {f"process {pid}" for pid in found - root}


def _descriptors() -> set[str]:
    """Open descriptors of this process."""
    return {f"descriptor {fd.name}" for fd in Path("/proc/self/fd").iterdir()}


def _files() -> set[str]:
    """Files in the usual writable places."""
    places = [Path(name) for name in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/")]
    found = (file for place in (*places, Path.cwd()) if place.is_dir() for file in place.iterdir())
    return {f"file {file}" for file in found if file.name.startswith(MARK)}


def _sockets() -> set[str]:
    """Sockets of the names and the port that attacks ask for."""
    found = set()
    for kind in ("tcp", "tcp6", "udp", "udp6", "unix"):
        table = Path("/proc/net", kind)
        lines = table.read_text(errors="replace").splitlines()[1:] if table.exists() else []
        mark = MARK if kind == "unix" else f":{PORT:04X} "
        found |= {f"socket {kind} {line.strip()}" for line in lines if mark in line}
    return found


def _ipc() -> set[str]:
    """System V objects of the key that attacks ask for."""
    found = set()
    for kind in ("shm", "sem", "msg"):
        table = Path("/proc/sysvipc", kind)
        lines = table.read_text().splitlines()[1:] if table.exists() else []
        found |= {f"{kind} {line}" for line in lines if line.split()[0] == str(IPC_KEY)}
    return found


def what_is_left(before: set[str]) -> list[str]:
    """What a census finds anew; what the kernel is about to reap gets a moment."""
    deadline = time.monotonic() + 5
    while (left := census() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    return sorted(left)


def run_corpus(sandbox: Sandbox, answer_file: Path) -> dict[str, object]:
    """Judge all attacks, and afterwards an honest program."""
    before = census()
    attacks = (*COMPILE_TIME, *RUN_TIME)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1) as threads:
        verdicts = threads.map(lambda attack: judge(sandbox, attack, answer_file), attacks)
        found = {attack.name: verdict for attack, verdict in zip(attacks, verdicts, strict=True)}
    found["honest"] = judge(sandbox, Attack("honest", main('puts("ok");')), answer_file)
    return {"uid": os.getuid(), "verdicts": found, "left": what_is_left(before)}


def start() -> None:
    """Judge on the rung that the command line names."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        sandbox = probe_sandbox(only=sys.argv[1])
    except SandboxUnavailableError as error:
        json.dump({"unavailable": str(error)}, sys.stdout)
        return
    with tempfile.NamedTemporaryFile("w", prefix="answer-", suffix=".out") as answer:
        answer.write("ok\nthe answer\n")
        answer.flush()
        Path(answer.name).chmod(0o644)
        json.dump(run_corpus(sandbox, Path(answer.name)), sys.stdout)


if __name__ == "__main__":
    start()
