"""The JSON schemas of configurations, by which editors complete and check them."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from evaluator.cli import app

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.mark.parametrize("kind", ["run", "bench"])
def test_the_schema_in_configs_is_that_of_the_command(kind):
    done = CliRunner().invoke(app, ["schema", kind])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads((CONFIGS / f"{kind}.schema.json").read_text())


@pytest.mark.parametrize(("name", "kind"), [("demo", "run"), ("bench", "bench")])
def test_the_files_of_configs_name_their_schema_and_have_its_fields(name, kind):
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"# yaml-language-server: $schema={kind}.schema.json" in text
    schema = json.loads((CONFIGS / f"{kind}.schema.json").read_text())
    assert set(schema["required"]) <= yaml.safe_load(text).keys() <= set(schema["properties"])


def test_another_kind_is_refused():
    done = CliRunner().invoke(app, ["schema", "judge"])
    assert done.exit_code == 2
    assert "expected run or bench, found 'judge'" in done.stderr
