"""A whole bench on a tiny model, and how one is made."""

import shutil
from functools import partial

import pytest
import yaml

from evaluator.bench.bench import bench
from evaluator.bench.config import load_bench
from tests.evaluator.conftest import write_sum_suite

EMBEDDED = {"format": "nf4-embedded"}
LOST = {"name": "lost", "format": "nf4", "requantize": "calibrated", "prompts": "/no/texts"}
RUN = "runs/tiny/a/sums/warm"


def make(config, progress=lambda *_: None):
    return bench(config, command="test", unsafe=False, progress=progress)


@pytest.fixture(scope="session")
def write(chat_base, chat_artifact, tmp_path_factory):
    """``write(folder, **changes)`` gives a configuration whose suite stays where it is."""
    suite = write_sum_suite(tmp_path_factory.mktemp("problems") / "suite")
    rows = (suite / "problems.jsonl").read_text().splitlines(keepends=True)
    (suite / "problems.jsonl").write_text("".join(rows[:4]))
    warm = {"name": "warm", "temperature": 0.7, "max_new_tokens": 72, "batch_size": 6}

    def load(folder, artifacts=None, more_suites=(), **changes):
        named = (artifacts or {"a": chat_artifact}).items()
        base = {"name": "tiny", "model": str(chat_base), "load": "nf4"}
        base["artifacts"] = [{"name": name, "path": str(path)} for name, path in named]
        content = {"name": "tiny", "out": str(folder / "bench"), "bases": [base]}
        content["suites"] = [{"name": "sums", "path": str(suite)}, *more_suites]
        content |= {"formats": [EMBEDDED], "decodings": [warm], "judge": {"workers": 2}}
        content |= {"equivalence": {"margin": 0.05}, **changes}
        (folder / "bench.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return load_bench(folder / "bench.yaml")

    return load


@pytest.fixture
def config_of(write, tmp_path):
    return partial(write, tmp_path)


@pytest.fixture(scope="session")
def whole(write, tmp_path_factory):
    """(directory, results, progress) of a bench with a format and a suite that fail."""
    folder, seen = tmp_path_factory.mktemp("whole"), []
    gone = {"name": "gone", "path": "/no/such/suite"}
    config = write(folder, formats=[EMBEDDED, LOST], more_suites=[gone])
    return folder / "bench", make(config, lambda *event: seen.append(event)), seen


@pytest.fixture
def copied(whole, tmp_path):
    """The whole bench, to be changed; without what failed it is finished."""
    out = shutil.copytree(whole[0], tmp_path / "bench")
    shutil.rmtree(out / "exports" / "tiny" / "a" / "lost", ignore_errors=True)
    return out
