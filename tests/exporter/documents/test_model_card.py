"""The model card, whose text comes from anywhere."""

import ast
import re

import pytest
import yaml


@pytest.mark.parametrize("format", ["lora", "peft-tinylora", "nf4"])
def test_what_an_artifact_calls_its_base_is_text_in_the_card(base, make_artifact, run, format):
    hostile = 'x"); __import__("os").system("id"); ("<img src=y>|[z](http://z)`'
    card = (run(base, make_artifact(3e-3, model_id=hostile), format).out / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["base_model"] == hostile
    code = text.split("```python\n")[1].split("```")[0]
    strings = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)]
    assert (hostile in strings) == (format != "nf4")
    shown = text.replace(code, "")
    assert "\\<img src=y\\>\\|\\[z\\](http://z)\\`" in shown
    assert not re.search(r"(?<!\\)(<|\[z|`$)", shown)
    assert "__import__" not in shown.replace("\\_\\_import\\_\\_", "")
