"""Every attack gets its verdict in time, on each rung of the sandbox, and leaves nothing.

A judge that runs as root gives root up before it runs anything; one that does not is another
path through the sandbox. So tests that run as root start a judge of each kind.
"""

import json
import os
import re
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluator.judging.hostile.compile_time import COMPILE_TIME
from tests.evaluator.judging.hostile.run_time import RUN_TIME

# Several attacks share a machine that others may use too; what they use is bounded sharply.
WALL_S = 30
TICKS_MS = 100  # beyond the kill at 1.25 times the limit: some ticks of the watch
ROOT = Path(__file__).resolve().parents[4]
NOBODY = 64998  # no account's, and not the one that a judge started by root becomes
BECOME_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
USERS = ("root", "ordinary") if os.getuid() == 0 else ("ordinary",)
DRIVER = "tests.evaluator.judging.hostile.driver"
# The interpreter of the tests may lie where an ordinary user cannot go; its packages do not.
PYTHONS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")
PACKAGES = os.pathsep.join([str(ROOT), *site.getsitepackages()])


def _run(prefix, python, *arguments):
    # a shell between: what setpriv itself starts still has root's reach
    return subprocess.run(
        [*prefix, "/bin/sh", "-c", 'exec "$0" "$@"', python, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PACKAGES, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _can_run(prefix, python):
    return _run(prefix, python, "-c", f"import {DRIVER}").returncode == 0


@pytest.fixture(
    scope="session", params=[f"{rung}-{user}" for rung in ("bwrap", "unshare") for user in USERS]
)
def judged(request):
    """The verdicts on the whole corpus, and what was left."""
    rung, user = request.param.split("-")
    prefix = BECOME_NOBODY if user == "ordinary" and os.getuid() == 0 else ()
    python = next(filter(lambda path: _can_run(prefix, path), PYTHONS), None)
    if python is None:
        pytest.skip(f"an ordinary user cannot read {ROOT}, or has no Python of at least 3.11")
    done = _run(prefix, python, "-m", DRIVER, rung)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    if "unavailable" in report:
        pytest.skip(report["unavailable"])
    assert (report["uid"] == 0) is (user == "root")
    return report


def by_name(attacks):
    return pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.name)


@by_name(RUN_TIME)
def test_at_run_time(judged, attack):
    verdict = judged["verdicts"][attack.name]
    assert verdict["verdict"] == attack.verdict, verdict
    [test] = verdict["tests"]
    if attack.signals:
        assert test["signal"] in attack.signals
    else:
        assert (test["signal"], test["exit_code"]) == (None, attack.exit_code)
    assert attack.detail in test["detail"]
    assert test["score"] == (attack.verdict == "AC")
    low, high = attack.memory_kib
    assert low <= test["memory_kib"] <= high
    assert test["time_ms"] <= 1.25 * attack.time_limit_ms + TICKS_MS
    assert verdict["seconds"] < WALL_S
    assert judged["left"] == []


@by_name(COMPILE_TIME)
def test_at_compile_time(judged, attack):
    verdict = judged["verdicts"][attack.name]
    assert (verdict["verdict"], verdict["tests"]) == (attack.verdict, []), verdict
    message = verdict["compile_message"]
    assert re.search(attack.detail, message) and len(message) < 5000
    assert "root:" not in message and "the answer" not in message
    assert verdict["seconds"] < WALL_S
    assert judged["left"] == []


def test_an_honest_program_passes_afterwards(judged):
    assert judged["verdicts"]["honest"]["verdict"] == "AC"
    assert judged["left"] == []
