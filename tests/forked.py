"""The client of fork_server.py."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class ForkServer:
    """Does work in processes of its own; see fork_server.py."""

    def __init__(self, module: str, first: dict[str, object]) -> None:
        self._scratch = tempfile.TemporaryDirectory()  # for what is left by those who are killed
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py")), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
            | {"TMPDIR": self._scratch.name},
        )
        self._send(first)
        assert self._answer() == "ready"

    def start(self, fields: dict[str, object]) -> int:
        """Begin some work and return its process; :meth:`wait` must follow."""
        self._send(fields)
        return int(self._answer())

    def wait(self, pid: int) -> int:
        """Wait for work that was started; its wait status."""
        self._send({"wait": pid})
        return int(self._answer())

    def run(self, fields: dict[str, object]) -> int:
        return self.wait(self.start(fields))

    def kill_when_stopped(self, fields: dict[str, object]) -> None:
        """Start work that stops itself (SIGSTOP), and kill it there."""
        pid = self.start(fields)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        assert killed(self.wait(pid))

    def close(self) -> None:
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()
        self._scratch.cleanup()

    def _send(self, fields: dict[str, object]) -> None:
        self._process.stdin.write(json.dumps(fields) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        return self._process.stdout.readline().strip()


def killed(status: int) -> bool:
    """Whether a wait status says that SIGKILL ended the process."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
