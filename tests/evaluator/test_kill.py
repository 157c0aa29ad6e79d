"""``kill -9`` at any moment of a run: what is on the disk is right, and the next start goes on."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.evaluator.whole_runs import identities, lines_of, make
from tests.forked import killed

KILLS, STRETCHES = 30, 5  # one kill from each stretch of a run, again and again
SEED = 20240611


def kill_after(server, config, lines, seconds):
    """Start the run and kill it a moment after so many records; whether it still ran then.

    The run stops itself at the chosen record, so that no load on the machine makes us miss it.
    """
    pid = server.start({"config": str(config), **({"stop_after": lines} if lines else {})})
    while lines and _state(pid) not in "TZ":
        time.sleep(0.002)
    if seconds:
        os.kill(pid, signal.SIGCONT)
        time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    status = server.wait(pid)
    assert killed(status) or status == 0
    return killed(status)


def _state(pid):
    """Letter of a process: T is stopped, Z has ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(run_server, quick_config, tmp_path):
    begin = time.monotonic()
    expected = identities(make(quick_config(tmp_path / "whole"))[0])
    records = sum(map(len, expected))
    between = (time.monotonic() - begin) / records  # seconds from a record to the next, at most
    draw, states, runs = random.Random(SEED), [], 0
    out = config = None

    def finish():
        assert run_server.run({"config": str(config)}) == 0
        assert identities(out) == expected, states

    for number in range(KILLS):
        lines = int((number % STRETCHES + draw.random()) / STRETCHES * records)
        # every second kill is at the record itself, the others between it and later ones
        seconds = draw.random() * between * (number % 2)
        if out is None or sum(lines_of(out)) >= lines:  # this run is past that record
            if out is not None:
                finish()
            runs += 1
            out = tmp_path / f"out-{runs}"
            config = quick_config(out)
        kill_after(run_server, config, lines, seconds)
        states.append(lines_of(out))
        for found, right in zip(identities(out), expected, strict=True):
            assert set(found) <= set(right), states
    finish()
    completions = len(expected[0])
    judging = [state for state in states if state[0] == completions and state[1] > 0]
    generating = [state for state in states if state[0] < completions]
    print(f"{KILLS} kills in {runs} runs, seed {SEED}, (completions, verdicts): {states}")
    # of the kills at a record alone, whatever the others met
    assert len(judging) >= 6 and len(set(judging)) >= 4
    assert len(generating) >= 6 and len(set(generating)) >= 4
