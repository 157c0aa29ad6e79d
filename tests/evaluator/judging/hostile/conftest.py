"""The corpus on each rung of the sandbox, judged by root and by an ordinary user.

A judge that runs as root gives root up before it runs anything; one that does not is another
path through the sandbox. So tests that run as root start a judge of each kind.
"""

import json
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

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
