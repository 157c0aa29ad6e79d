"""Another backend beside transformers, added as CONTRIBUTING.md says."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from evaluator.errors import ConfigError
from evaluator.generation.backends import BACKENDS
from tests.evaluator.conftest import program
from tests.evaluator.whole_runs import make, merged, two_arms, write_config

TABLE = "tests.evaluator.generation.table_backend"


@pytest.fixture
def config(quick, tmp_path, monkeypatch):
    """``config(**changes)`` writes a greedy run of a restored arm and one that is a table."""
    monkeypatch.setitem(BACKENDS, "table", TABLE)
    model = shutil.copytree(quick["base"], tmp_path / "table")
    texts = {f"S{k}": program(k, "+" if k < 4 else "-") for k in range(6)}
    (model / "table.json").write_text(json.dumps(texts))
    _, restored = two_arms(quick["base"], quick["artifact"])
    content = {"arms": [restored, merged("table", model, backend="table")]}
    content |= {"decoding": {"max_new_tokens": 14}, "token_level": {"enabled": False}}

    def write(**changes):
        path = tmp_path / "config.yaml"
        return write_config(path, out=tmp_path / "out", **quick, **{**content, **changes})

    return write


def test_a_backend_of_one_file_makes_an_arm_of_a_run(config):
    out, results = make(config())
    rates = {arm.facts.name: arm.pass_rate for arm in results.summary.arms}
    assert rates["table"] == pytest.approx(4 / 6)
    assert (out / "report.html").is_file()
    arms = json.loads((out / "run.json").read_text())["config"]["arms"]
    assert [arm.get("backend") for arm in arms] == [None, "table"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "tabel"}, "there is no backend 'tabel'; known are completions, openai, table"),
        ({"backend": "table"}, "arm restored: backend table cannot put an adapter on a model"),
        (
            {"backend": "table", "token_level": {}},
            "arm restored: backend table gives no logits.*enabled: false",
        ),
        ({"backend": "openai"}, "arm restored: backend openai needs the field endpoint"),
    ],
)
def test_what_a_backend_cannot_do_is_said_before_any_work(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        make(config(**changes))
    content = yaml.safe_load(config(**changes).read_text())
    assert not Path(content["out"]).exists()


def test_a_backend_whose_library_is_missing_is_named(config, monkeypatch):
    monkeypatch.setitem(BACKENDS, "table", "no_such_library")
    with pytest.raises(ConfigError, match="backend table needs a library.*no_such_library"):
        make(config())
