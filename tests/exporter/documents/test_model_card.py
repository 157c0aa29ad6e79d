"""The model card, whose text comes from anywhere."""

import ast
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id


@pytest.mark.parametrize("format", ["lora", "peft-tinylora", "nf4"])
def test_what_an_artifact_calls_its_base_is_text_in_the_card(base, make_artifact, run, format):
    hostile = 'x"); __import__("os").system("id"); ("<img src=y>|[z](http://z)`'
    card = (run(base, make_artifact(3e-3, model_id=hostile), format).out / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert "base_model" not in yaml.safe_load(front)
    code = text.split("```python\n")[1].split("```")[0]
    strings = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)]
    assert (hostile in strings) == (format != "nf4")
    shown = text.replace(code, "")
    assert "\\<img src=y\\>\\|\\[z\\](http://z)\\`" in shown
    assert not re.search(r"(?<!\\)(<|\[z|`$)", shown)
    assert "__import__" not in shown.replace("\\_\\_import\\_\\_", "")


def head_of(card):
    """The card's YAML head as the hub's own library reads it."""
    return ModelCard(card, ignore_metadata_errors=False).data.to_dict()


@pytest.fixture
def card(copy, artifact, run):
    """``card(head, format)``: that of an export of a base whose own card has a head."""

    def make(head, format="lora"):
        (copy / "README.md").write_text(f"---\n{head}\n---\n# Tiny\n")
        return (run(copy, artifact, format).out / "README.md").read_text()

    return make


@pytest.mark.parametrize(
    ("format", "relation", "library"),
    [("nf4-embedded", "finetune", "transformers"), ("lora", "adapter", "peft")],
)
def test_the_head_has_what_a_hub_asks_for(card, format, relation, library):
    found = head_of(card("license: apache-2.0\nlanguage: [en, zh, 7, Klingon!]", format))
    assert found == {
        "license": "apache-2.0",
        "base_model": "someone/tiny-qwen",
        "base_model_relation": relation,
        "language": ["en", "zh"],
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["tinylora", format],
    }
    validate_repo_id(found["base_model"])


@pytest.mark.parametrize(
    "local", ["/data/models/Qwen2.5", "./base", "../a/b", "base", "C:\\m\\q", "{there}"]
)
def test_a_local_path_is_no_base_model(base, make_artifact, run, tmp_path, monkeypatch, local):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    name = local.format(there="models/mine")
    out = run(base, make_artifact(3e-3, model_id=name), "lora").out
    found = head_of((out / "README.md").read_text())
    assert "base_model" not in found and "base_model_relation" not in found


@pytest.mark.parametrize(
    "head",
    [
        "license: " + "[" * 5000 + "]" * 5000,
        "a: &a [x, x]\n" + "b: &a [*a, *a, *a]\n" * 19 + "license: *a",
        "license: [1, 2]",
        "license: {a: b}\nlanguage: 2021-13-45",
        "license: !!python/object/apply:os.getcwd []",
        'license: "\\uD800"',
        "x: " + "9" * 300_000,
        "? [a]\n: b",
        "\0",
    ],
    ids=["nested", "aliases", "list", "map", "python", "surrogate", "huge", "key", "NUL"],
)
def test_a_head_that_nobody_can_use_leaves_the_licence_unknown(head, card):
    found = head_of(card(head))
    assert found["license"] == "unknown" and "language" not in found


def test_a_licence_in_control_characters_is_shown_as_text(card):
    text = card(r'license: "\e[31m[x](http://y)\a"')
    assert "\x1b" not in text and r"\\x1b\[31m\[x\](http://y)\\x07" in text


@pytest.mark.parametrize(
    ("given", "license", "name"),
    [
        ("license: other\nlicense_name: tongyi", "other", "tongyi"),
        ("license: Apache License 2.0", "other", "Apache License 2.0"),
        ("title: x", "unknown", None),
    ],
)
def test_a_licence_that_no_hub_knows_is_named(card, given, license, name):
    found = head_of(card(given))
    assert (found["license"], found.get("license_name")) == (license, name)


@pytest.mark.parametrize(("format", "named"), [("nf4-embedded", True), ("lora", False)])
def test_a_licence_text_is_named_where_the_export_has_it(base, artifact, run, format, named):
    out = run(base, artifact, format).out
    assert ("its text: LICENSE" in (out / "README.md").read_text()) == named
    assert (out / "LICENSE").is_file() == named
