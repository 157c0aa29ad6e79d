"""``kill -9`` at any moment of a run: what is on the disk is right, and the next start goes on."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.evaluator.whole_runs import identities, make
from tests.forked import killed

KILLS, CHAIN = 30, 5  # that many kills of one run before it may end
SEED = 20240611
LATER = 0.05  # seconds after the chosen record, at most: about the time from one to the next


def lines_of(out):
    """(completions, verdicts) that are on the disk as whole lines."""
    files = (out / "generations.jsonl", out / "verdicts.jsonl")
    return tuple(f.read_bytes().count(b"\n") if f.exists() else 0 for f in files)


def kill_after(server, config, out, lines, seconds):
    """Start the run and kill it a moment after so many records; whether it still ran then."""
    pid = server.start({"config": str(config)})
    end = Path(f"/proc/{pid}/stat")
    while sum(lines_of(out)) < lines and " Z " not in end.read_text():
        time.sleep(0.002)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    status = server.wait(pid)
    assert killed(status) or status == 0
    return killed(status)


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(run_server, quick_config, tmp_path):
    expected = identities(make(quick_config(tmp_path / "whole"))[0])
    records = sum(map(len, expected))
    draw, states = random.Random(SEED), []
    chain = 0
    while len(states) < KILLS:
        chain += 1
        out = tmp_path / f"out-{chain}"
        config = quick_config(out)
        for number in range(CHAIN):
            lines = int((number + draw.random()) / CHAIN * records)
            if not kill_after(run_server, config, out, lines, draw.random() * LATER):
                break  # it ended first
            states.append(lines_of(out))
            for found, right in zip(identities(out), expected, strict=True):
                assert set(found) <= set(right), states
        assert run_server.run({"config": str(config)}) == 0
        assert identities(out) == expected, states
    completions = len(expected[0])
    judging = [state for state in states if state[0] == completions and state[1] > 0]
    generating = [state for state in states if state[0] < completions]
    print(f"{len(states)} kills in {chain} runs, seed {SEED}, (completions, verdicts): {states}")
    assert len(states) >= KILLS
    assert len(judging) >= 8 and len(set(judging)) >= 4
    assert len(generating) >= 8 and len(set(generating)) >= 4
