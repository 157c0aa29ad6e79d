"""The files of an arm: what is missing, and what a run records of them."""

import json
import os
import shutil

import pytest

from evaluator.config.run_config import ArmConfig
from evaluator.errors import ModelError
from evaluator.generation.checkpoints import find_checkpoint
from tinylora.errors import TokenizerError
from tinylora.models.chat import load_tokenizer


def arm(kind, model, **more):
    return ArmConfig(name=kind, kind=kind, model=str(model), **more)


def copied(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "copy")


def test_missing_parts_are_named(chat_base, tmp_path):
    with pytest.raises(ModelError, match="no directory"):
        find_checkpoint(arm("base", tmp_path / "none"))
    with pytest.raises(ModelError, match="has no config.json"):
        find_checkpoint(arm("base", tmp_path))
    with pytest.raises(ModelError, match="no artifact at"):
        find_checkpoint(arm("restored", chat_base, artifact=tmp_path / "none.pt"))
    directory = copied(chat_base, tmp_path)
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(TokenizerError, match="has no tokenizer"):
        load_tokenizer(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weight file"):
        find_checkpoint(arm("base", directory))


@pytest.mark.parametrize(
    ("name", "decides"),
    [("README.md", False), ("retention.json", False), ("SHA256SUMS", False), ("vocab.json", True)]
    + [(os.fsdecode(b"\xff\xfe.txt"), True)],
    ids=ascii,
)
def test_only_files_that_a_model_is_loaded_from_decide_its_digest(
    chat_base, tmp_path, name, decides
):
    directory = copied(chat_base, tmp_path)
    before = find_checkpoint(arm("merged", directory)).facts.digest
    (directory / name).write_text("{}")
    assert (find_checkpoint(arm("merged", directory)).facts.digest != before) is decides


def test_facts_of_a_checkpoint(chat_base, chat_artifact, tmp_path):
    directory = copied(chat_base, tmp_path)
    before = find_checkpoint(arm("merged", directory))
    assert before.facts.weight_bytes == (directory / "model.safetensors").stat().st_size
    assert (before.facts.capture, before.facts.residual, before.positions) == (None, None, 512)
    total = {"capture": 0.25, "residual": 0.9}
    (directory / "fidelity.json").write_text(json.dumps({"total": total}))
    after = find_checkpoint(arm("merged", directory))
    assert (after.facts.capture, after.facts.residual) == (0.25, 0.9)
    assert after.facts.digest == before.facts.digest
    restored = find_checkpoint(arm("restored", directory, artifact=chat_artifact))
    assert restored.facts.weight_bytes == before.facts.weight_bytes + chat_artifact.stat().st_size
    for odd in ("1e999", "NaN", "1" + "0" * 400, '"x"', "[]", "[" * 900 + "]" * 900):
        for content in (f'{{"total": {{"capture": {odd}}}}}', f'{{"total": {odd}}}'):
            (directory / "fidelity.json").write_text(content)
            with pytest.raises(ModelError, match=r"fidelity\.json: expected"):
                find_checkpoint(arm("merged", directory))
