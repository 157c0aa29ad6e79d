"""The ladder: which rung is taken, and what is said where none works."""

import os
import shutil
import subprocess
import sys

import pytest

from evaluator.errors import SandboxUnavailableError
from evaluator.judging.sandbox.sandbox import probe_sandbox

COMPILER = ("g++", "as", "ld")


@pytest.fixture
def only_tools(tmp_path, monkeypatch):
    """Leave a machine with these tools alone, and others that fail."""

    def call(*names, broken=()):
        for name in (*COMPILER, *names):
            if found := shutil.which(name):
                (tmp_path / name).symlink_to(found)
        for name in broken:
            (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return call


def test_without_bubblewrap_the_next_rung_is_taken(only_tools):
    only_tools("unshare", "setpriv")
    sandbox = probe_sandbox(unsafe=True)
    assert sandbox.info.rung in ("unshare", "unsafe")
    assert sandbox.info.refused[0] == "bwrap: bwrap is not installed"


def test_without_any_rung_the_way_out_is_named(only_tools):
    only_tools("setpriv", broken=("bwrap", "unshare"))
    with pytest.raises(SandboxUnavailableError, match="(?s)bubblewrap.*--unsafe"):
        probe_sandbox()
    assert probe_sandbox(unsafe=True).info.rung == "unsafe"
    with pytest.raises(SandboxUnavailableError):
        probe_sandbox(only="unsafe")  # which has to be asked for


def test_without_a_compiler_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailableError, match="apt-get install g\\+\\+"):
        probe_sandbox()


def test_a_judge_without_standard_streams_finds_its_sandbox():
    code = "from evaluator.judging.sandbox.sandbox import probe_sandbox; probe_sandbox(unsafe=True)"
    command = f'exec "{sys.executable}" -c "{code}" <&- >&-'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a capability up")
@pytest.mark.parametrize("capability", ["setgid", "setuid"])
def test_root_that_may_not_become_another_user_is_told_so(capability):
    """As in containers with dropped capabilities."""
    code = "from evaluator.judging.sandbox.sandbox import probe_sandbox; probe_sandbox(unsafe=True)"
    drop = ["setpriv", f"--bounding-set=-{capability}", sys.executable, "-c", code]
    done = subprocess.run(drop, capture_output=True, text=True)
    assert "SandboxUnavailableError: no sandbox works here: the judge is root" in done.stderr
    assert "--cap-add SETUID --cap-add SETGID" in done.stderr
