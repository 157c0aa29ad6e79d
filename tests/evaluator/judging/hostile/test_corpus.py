"""Every attack gets its verdict in time, and leaves nothing."""

import re

import pytest

from tests.evaluator.judging.hostile.compile_time import COMPILE_TIME
from tests.evaluator.judging.hostile.run_time import RUN_TIME

# Several attacks share a machine that others may use too; what they use is bounded sharply.
WALL_S = 30
TICKS_MS = 100  # beyond the kill at 1.25 times the limit: some ticks of the watch


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
