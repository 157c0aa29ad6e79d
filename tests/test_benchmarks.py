"""The scripts of benchmarks/: their inputs are what they say, and they measure what they name."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks import decode, folds, harness
from benchmarks.harness import watch
from benchmarks.random_base import write_model
from tinylora import load_artifact


def test_page_names_its_command_and_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--rounds", "2"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = harness.table(("way", "|v|"), [("ours", 1.5), ("theirs", "")])
    harness.write_page(tmp_path / "new" / "page.md", "Title\n\n    code\n", "words", rows)
    title, made, code, words, lines = (tmp_path / "new" / "page.md").read_text().split("\n\n")
    assert (title, code, words) == ("# Title", "    code", "words")
    assert made.startswith("`OMP_NUM_THREADS=1 python -m ") and " --rounds 2` on " in made
    assert f"torch {version('torch')}" in made
    assert lines == "| way | \\|v\\| |\n| --- | ---: |\n| ours | 1.5 |\n| theirs |  |\n"


def test_random_base_is_a_checkpoint_with_a_matching_artifact(tmp_path):
    write_model(tmp_path, "tiny")
    model, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", dtype="auto", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.dtype == torch.bfloat16
    assert model(torch.arange(5).unsqueeze(0)).logits.isfinite().all()
    artifact = load_artifact(tmp_path / "tiny_lora_v.pt")
    assert (artifact.u, artifact.rank, artifact.total_replaced_layers) == (32, 2, 14)
    assert float(artifact.global_v.float().abs().mean()) == pytest.approx(3e-5, rel=0.01)


def test_a_scaled_artifact_is_otherwise_the_same(tmp_path):
    own, direction = load_artifact("demo/tiny_lora_v.pt"), torch.arange(32.0)
    harness.scaled(Path("demo/tiny_lora_v.pt"), 15.5, tmp_path / "v.pt", direction)
    other = load_artifact(tmp_path / "v.pt")
    assert torch.equal(other.global_v, direction)
    same = ("rank", "seed", "model_id", "total_replaced_layers", "formula", "saved_device")
    assert all(getattr(other, name) == getattr(own, name) for name in same)
    assert other.formula == "full"
    harness.scaled(tmp_path / "v.pt", 3e-5, tmp_path / "small.pt")
    small = load_artifact(tmp_path / "small.pt").global_v.float()
    assert float(small.abs().mean()) == pytest.approx(3e-5, rel=0.01)
    assert float(torch.nn.functional.cosine_similarity(small, direction, dim=0)) > 0.9999


def test_watch_sees_the_private_memory_of_another_process():
    holding = "x = bytearray(b'1') * 200_000_000; import time; time.sleep(0.3)"
    usage = watch([sys.executable, "-c", holding])
    assert 200e6 < usage.private < 260e6
    assert usage.resident >= usage.private and usage.seconds > 0.3


def test_all_arms_of_the_decoding_carry_the_adapter_but_the_base(tmp_path):
    write_model(tmp_path, "tiny")
    bound = {decode.BASE: (5e-5, 1e-2), decode.BF16: (1e-7, 1e-5)}
    for four_bit in (False, True):
        for _, batch, arm, rate, *_, apart in decode.rows(tmp_path, four_bit, rounds=1):
            low, high = bound.get(arm, (0.0, 2e-6))
            assert low <= float(apart) <= high and float(rate) > 0, (batch, arm)


def test_folds_are_timed_beside_a_copy():
    copy, *_, theirs, _ = folds.rows((64, 128), rounds=1)
    assert copy[-1] == "1" and theirs[1].endswith("as PEFT") and float(theirs[-1]) > 1
