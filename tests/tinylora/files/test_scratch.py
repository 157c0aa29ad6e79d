"""Scratch directories go with their owner, also where that was killed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tinylora.errors import ScratchError
from tinylora.files.scratch import scratch_directory

OWNER = """
import sys, time
from tinylora.files.scratch import scratch_directory
with scratch_directory("export") as path:
    (path / "factors").mkdir()
    (path / "factors" / "x").write_text("x")
    print(path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owners(tmp_path, monkeypatch):
    """``owners()`` starts a process that holds a scratch directory, and gives both."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started = []

    def start():
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=environment
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_scratch_directory_ends_with_its_block(owners, tmp_path):
    with scratch_directory("export") as path:
        assert path.parent == tmp_path and path.is_dir()
    with pytest.raises(ZeroDivisionError), scratch_directory("export"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_next_start_removes_what_killed_processes_left(owners, tmp_path):
    killed = [owners() for _ in range(3)]
    for process, _ in killed:
        process.send_signal(signal.SIGKILL)
        process.wait()
    alive, held = owners()  # it removes those of the killed, and waits
    assert [str(path) for path in tmp_path.iterdir()] == [held]
    (tmp_path / "tinylora-notes").mkdir()  # no lock was ever held on this
    with scratch_directory("judge") as mine:
        names = {str(path) for path in tmp_path.iterdir()}
        assert names == {held, str(mine), str(tmp_path / "tinylora-notes")}
    assert alive.poll() is None


def test_a_tmpdir_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ScratchError, match="No such file.*gone.*TMPDIR"), scratch_directory("x"):
        pass


def test_a_directory_that_another_start_removes_at_once_is_made_again(tmp_path, monkeypatch):
    made, make = [], tempfile.mkdtemp

    def make_and_lose_the_first(**options):
        made.append(make(**options, dir=tmp_path))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose_the_first)
    with scratch_directory("test") as path:
        assert str(path) == made[1] and path.is_dir()
