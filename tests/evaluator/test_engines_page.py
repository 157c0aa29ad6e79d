"""The examples of docs/engines.md are right, and both languages give the same ones."""

import json
import re
from pathlib import Path

import pytest
import yaml

from evaluator.config.endpoint_config import EndpointConfig
from evaluator.config.run_config import RunConfig
from tests.evaluator.whole_runs import make, write_config

PAGES = [Path(__file__).parents[2] / "docs" / f"engines{end}" for end in (".md", ".zh-CN.md")]


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_both_languages_give_the_same_examples():
    for language in ("sh", "yaml", "json"):
        assert blocks(PAGES[0], language) == blocks(PAGES[1], language) != []


@pytest.mark.parametrize("block", blocks(PAGES[0], "yaml"))
def test_arms_are_what_a_run_takes(block):
    named = {"name": "a", "suite": "s", "out": "o"}
    arms = RunConfig.model_validate({**named, **yaml.safe_load(block)}).arms
    assert [str(arm.kind) for arm in arms][:2] == ["base", "restored"]


def test_every_field_of_an_endpoint_is_described():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        rows = re.findall(r"^\| (`[a-z_]+`(?:(?:, |、)`[a-z_]+`)*) \|", text, re.MULTILINE)
        assert set(re.findall(r"[a-z_]+", " ".join(rows))) == set(EndpointConfig.model_fields)


def test_both_forms_of_rows_are_read(quick, tmp_path):
    texts = tmp_path / "texts.jsonl"
    ours, batch = blocks(PAGES[0], "json")[0].splitlines()
    rows = [ours.replace("P1001", f"S{k}") for k in range(3)]
    rows += [batch.replace("P1001", f"S{k}") for k in range(3, 6)]
    texts.write_text("\n".join(rows) + "\n")
    arms = [{"name": "file", "kind": "completions", "completions": str(texts)}]
    options = {**quick, "out": tmp_path / "out", "arms": arms, "decoding": {"samples": 1}}
    out, _ = make(write_config(tmp_path / "c.yaml", **options))
    made = [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]
    assert [row["finish_reason"] for row in made] == ["stop"] * 3 + ["length"] * 3
    assert [row["token_count"] for row in made] == [120] * 3 + [0] * 3
