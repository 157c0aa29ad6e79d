"""``kill -9`` at any moment of an export: nothing half-finished, and the next run ends the same."""

import json
import os
import random
import shutil
import signal
import statistics
import time
from pathlib import Path

import pytest

from exporter import verify
from tests.forked import killed

MOMENTS = 50
FORMATS = ("nf4", "nf4-embedded", "bf16")
SHARD = 15_000
LAST = 20  # changes of files that end an overwrite: publish, then remove the earlier export


@pytest.fixture
def fields(base, make_artifact, tmp_path):
    artifact = make_artifact(5e-2)  # moves codes of nf4 too

    def of(format, name="out", **more):
        out = str(tmp_path / "work" / name)
        asked = {"base": str(base), "artifact": str(artifact), "out": out, "format": format}
        return asked | {"max_shard_size": SHARD} | more

    return of


def content(directory):
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir())}


def test_killed_at_random_moments_and_resumed(server, fields, tmp_path):
    def seconds_of(asked):
        times = []
        for _ in range(3):
            shutil.rmtree(asked["out"], ignore_errors=True)
            begin = time.monotonic()
            assert server.run(asked) == 0
            times.append(time.monotonic() - begin)
        return statistics.median(times)

    whole, seconds = {}, {}
    for format in FORMATS:
        asked = fields(format, f"whole-{format}")
        seconds[format] = seconds_of(asked)
        whole[format] = content(Path(asked["out"]))
        assert len([name for name in whole[format] if name.endswith(".safetensors")]) > 4
    shutil.rmtree(tmp_path / "work")
    draw = random.Random(20240607)
    seen = set()
    for number in range(MOMENTS):
        format = FORMATS[number % len(FORMATS)]
        asked = fields(format)
        out = Path(asked["out"])
        if number % 10 == 5:  # the machine may be as fast no more
            seconds[format] = seconds_of(asked)
            shutil.rmtree(out.parent)
        # one moment from each fiftieth of the run: they spread over all of its stages
        moment = (number + draw.random()) / MOMENTS * seconds[format]
        pid = server.start(asked)
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
        status = server.wait(pid)
        assert killed(status) or status == 0
        if out.exists():
            assert content(out) == whole[format], moment
            assert verify(out).ok
            seen.add("finished")
        else:
            assert killed(status)
            seen.add(state_of(out.with_name("out.partial-export")))
            assert server.run(asked) == 0
            assert content(out) == whole[format], moment
        assert [p.name for p in out.parent.iterdir()] == ["out"]
        shutil.rmtree(out.parent)
    print(f"{MOMENTS} kills of runs of {seconds}: {sorted(map(str, seen))}")
    assert len(seen) > 4  # the kills met the work in different states


def state_of(partial):
    """How far a killed export had come: shards finished, and whether documents were there."""
    journal = partial / ".export-journal.json"
    shards = len(json.loads(journal.read_text())["files"]) if journal.exists() else 0
    return shards, (partial / "README.md").exists()


def test_killed_at_each_change_of_the_last_stage_of_an_overwrite(server, fields, tmp_path):
    """Killed before each of the last changes of files: writing documents, publishing, tidying."""
    old = fields("bf16", max_shard_size=None)
    new = fields("nf4", overwrite=True)
    out = Path(new["out"])
    assert server.run(old) == 0
    before = content(out)
    shutil.copytree(out, tmp_path / "old")
    report = tmp_path / "changes"
    assert server.run(new | {"report": str(report)}) == 0
    after, changes = content(out), int(report.read_text())
    assert before.keys() != after.keys() and changes > 40
    seen = set()
    for kill_at in range(changes - LAST + 1, changes + 1):
        shutil.rmtree(out.parent)
        shutil.copytree(tmp_path / "old", out)
        assert killed(server.run(new | {"kill_at": kill_at}))
        seen.add(now := which(out, before, after))
        if now == "none":  # the moment between two renames: the earlier one is beside it, whole
            assert content(out.with_name("out.replaced-export")) == before
            asked = fields("nf4")
            assert server.run(asked) != 0  # no --overwrite: refused, and the earlier one is back
            assert content(out) == before
        assert server.run(new) == 0
        assert content(out) == after
        assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert seen == {"old", "new", "none"}


def which(out, before, after):
    if not out.exists():
        return "none"
    found = content(out)
    assert found in (before, after), "a half-finished directory has the final name"
    return "old" if found == before else "new"
