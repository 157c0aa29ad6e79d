"""``kill -9`` within a run: what is on the disk is right, and the next start goes on."""

import pytest

from tests.evaluator.whole_runs import identities, make


@pytest.mark.slow
def test_killed_again_and_again_and_resumed(run_server, quick_config, tmp_path):
    expected = identities(make(quick_config(tmp_path / "whole"))[0])
    out = tmp_path / "out"
    fields = {"config": str(quick_config(out)), "out": str(out)}
    for lines in (1, 9, 20, 25, 33, 44):  # of 24 completions and 24 verdicts
        run_server.kill_when_stopped({**fields, "stop_after": lines})
        for found, right in zip(identities(out), expected, strict=True):
            assert set(found) <= set(right)
    assert run_server.run(fields) == 0
    assert identities(out) == expected
