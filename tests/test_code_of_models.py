"""Python code in a model's directory never runs, and nobody is asked whether it may."""

import json
import shutil

import pytest

import evaluator.cli
import exporter.cli
from tests.exporter.talking import VOCABULARY, write_rows, write_tokenizer

ARTIFACT = {"rank": 2, "seed": 7, "model_id": "a/b", "total_replaced_layers": 7, "formula": "full"}
SUITE_ROW = {"id": "P1", "statement": "s", "tests": [{"name": "1", "input": "1", "output": "1"}]}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A base, an artifact, texts and a suite, all of them sound; not to be changed."""
    import torch
    from transformers import Qwen2ForCausalLM

    from tests.conftest import tiny_config
    from tinylora import save_artifact

    folder = tmp_path_factory.mktemp("sound")
    config = tiny_config(
        hidden_size=64, intermediate_size=64, num_hidden_layers=1, vocab_size=VOCABULARY
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "base")
    write_tokenizer(folder / "base")
    save_artifact(folder / "v.pt", global_v=torch.ones(8), **ARTIFACT)
    write_rows(folder / "texts.jsonl", [{"text": "int main ( ) return 0"}])
    (folder / "suite").mkdir()
    suite = {"format": "tinylora-suite/1", "name": "s"}
    (folder / "suite/suite.json").write_text(json.dumps(suite))
    (folder / "suite/problems.jsonl").write_text(json.dumps(SUITE_ROW) + "\n")
    return folder


def with_code(sound, directory, ran, *, own_class):
    """A copy of a base whose auto_map names code; transformers has no class if ``own_class``."""
    shutil.copytree(sound, directory)
    for module, auto in (
        ("config", {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}),
        ("tokenizer_config", {"AutoTokenizer": ["code.Slow", "code.Fast"]}),
    ):
        path = directory / f"{module}.json"
        fields = json.loads(path.read_text()) | {"auto_map": auto}
        if own_class:
            fields |= {"model_type": "of-its-own", "tokenizer_class": "OfItsOwn"}
        path.write_text(json.dumps(fields))
    (directory / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\n")
    return directory


@pytest.fixture
def asked(monkeypatch):
    """What somebody was asked, who says yes to everything."""
    asked = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "y")
    return asked


def call(app, *arguments):
    """The exit code of a command."""
    try:
        app([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    return 0


def commands(files, base, out):
    """The commands that load a model, each with the export that it needs."""
    merge = ("merge", "--base", base, "--artifact", files / "v.pt", "--format", "bf16")
    yield exporter.cli.app, (*merge, "--out", out / "merged")
    yield exporter.cli.app, (*merge, "--check-prompts", files / "texts.jsonl", "--out", out / "2")
    config = out / "run.yaml"
    arms = [{"name": "b", "kind": "base", "model": str(base)}]
    arms.append({"name": "r", "kind": "restored", "model": str(base)})
    arms[1]["artifact"] = str(files / "v.pt")
    run = {"name": "x", "suite": str(files / "suite"), "out": str(out / "run"), "arms": arms}
    config.write_text(json.dumps(run))
    yield evaluator.cli.app, ("effect", config)
    yield evaluator.cli.app, ("run", config)


def test_a_model_that_needs_its_code_is_refused(files, tmp_path, asked, capfd):
    ran = tmp_path / "ran"
    base = with_code(files / "base", tmp_path / "base", ran, own_class=True)
    for app, arguments in commands(files, base, tmp_path):
        assert call(app, *arguments) == 2, arguments
        said = " ".join(capfd.readouterr().err.split())
        assert "not supported" in said and "y/N" not in said
    assert not ran.exists() and not asked


def test_code_beside_a_class_of_transformers_is_left_alone(files, tmp_path, asked, capfd):
    ran = tmp_path / "ran"
    base = with_code(files / "base", tmp_path / "base", ran, own_class=False)
    merge, with_texts, *_ = commands(files, base, tmp_path)
    for app, arguments in (merge, with_texts):
        assert call(app, *arguments) == 0, capfd.readouterr().err
    assert call(exporter.cli.app, "verify", tmp_path / "merged", "--load") == 0
    assert "y/N" not in "".join(capfd.readouterr())
    assert not ran.exists() and not asked
