"""``kill -9`` at any moment of an export: nothing half-finished, and the next run ends the same."""

import shutil
from pathlib import Path

import pytest

from tests.exporter.conftest import content
from tests.forked import killed

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


def test_killed_before_changes_of_files_and_resumed(server, fields, tmp_path):
    """Some while shards are written; each of writing documents, publishing and tidying."""
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
    for kill_at in (*range(1, changes - LAST, 5), *range(changes - LAST, changes + 1)):
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
