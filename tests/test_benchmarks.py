"""The scripts of benchmarks/: their inputs are what they say, and the watching sees memory."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from benchmarks import decode, export_stages, factors, generation_processes
from benchmarks.generation_processes import Job, Run, Way
from benchmarks.random_base import config_of, write_artifact, write_base
from benchmarks.watch import baseline, watch
from benchmarks.weights import trained_like
from tinylora import load_artifact


def tensors_of(directory):
    tensors = {}
    for file in directory.glob("*.safetensors"):
        tensors |= load_file(file)
    return tensors


def test_random_base_is_a_checkpoint_and_does_not_depend_on_shards(tmp_path):
    architecture = write_base("tiny", tmp_path / "base", 200_000)
    write_base("tiny", tmp_path / "whole", 1 << 30)
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    tensors, whole = tensors_of(tmp_path / "base"), tensors_of(tmp_path / "whole")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in tensors.items())
    assert {n: tuple(t.shape) for n, t in tensors.items()} == dict(architecture.parameters)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto")
    assert model(torch.arange(5).unsqueeze(0)).logits.isfinite().all()
    up = tensors["model.layers.1.mlp.up_proj.weight"].float()
    values = torch.linalg.svdvals(up)
    assert float(values[0] / values[1]) > 1.05  # a gap, as trained weights have
    assert float(values[8] / values[9]) < 1.2 and float(values[7] / values[8]) > 1.05


def test_the_large_shape_is_the_published_one():
    config = json.loads(config_of("qwen2.5-coder-3b").to_json_string())
    wanted = {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "intermediate_size": 11008,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }
    assert {key: config[key] for key in wanted} == wanted


def test_artifact_has_the_size_of_real_ones(tmp_path):
    write_artifact(tmp_path / "v.pt", 14, "someone/base")
    artifact = load_artifact(tmp_path / "v.pt")
    assert (artifact.u, artifact.rank, artifact.total_replaced_layers) == (32, 2, 14)
    assert float(artifact.global_v.float().abs().mean()) == pytest.approx(3e-5, rel=0.01)


def test_watch_sees_the_private_memory_of_another_process():
    holding = "x = bytearray(b'1') * 200_000_000; import time; time.sleep(0.3)"
    usage = watch([sys.executable, "-c", holding], threads=1)
    assert 200e6 < usage.anon < 260e6
    assert usage.rss >= usage.anon and usage.seconds > 0.3
    assert baseline(("json",), threads=1).anon < 60e6


def test_all_arms_of_the_decoding_carry_the_adapter_but_the_base(tmp_path):
    decode.tiny_model(tmp_path)
    with torch.inference_mode():
        found = [s for four_bit in (False, True) for s in decode.speeds(tmp_path, four_bit, 2, 1)]
    assert len(found) == 16
    for speed in found:
        bound = {decode.BASE: (5e-5, 1e-2), "upstream's way, ΔW in bf16": (1e-7, 1e-5)}
        low, high = bound.get(speed.arm, (0.0, 2e-6))
        assert low <= speed.apart <= high and speed.rate > 0
    table = decode.report(found, "command")
    assert table.count("\n| ") == 18 and table.count("\n- ") == 4


def test_factors_are_compared_with_float64():
    rows = factors.parallel_rows("two layers", factors.layers(48, 16, 64, 2), rounds=1)
    alone = factors.alone_rows("as trained weights", trained_like((160, 320)), 1)
    alone += factors.alone_rows("tall", trained_like((200, 96)), 1)
    assert all(a.values < 2e-6 and a.angle < 1e-5 and a.gap > 0.1 for a in alone)
    table = factors.report(rows, alone, 48 * 64, "command")
    assert "wanted ≥ 0.9" in table and table.count("wanted ≥ 15") == 2


def test_the_angle_between_subspaces():
    tilted = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.75]])
    assert factors.sine(tilted, torch.eye(3).double()[:, :2]) == pytest.approx(0.6)


def test_an_export_is_timed_by_stage_beside_a_copy(tmp_path):
    architecture = write_base("tiny", tmp_path / "base", 1 << 30, layers=1)
    assert len(architecture.targets) == 7
    write_artifact(tmp_path / "tiny_lora_v.pt", 7, "random/tiny")
    base, copied, out = tmp_path / "base", tmp_path / "copied", tmp_path / "out"
    assert export_stages.run_copy(base, copied) > 0
    assert (copied / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    run = export_stages.run_export(tmp_path, base, out, threads=1)
    laid_out = export_stages.laid_out_anew(tmp_path, out)
    found, wanted = tensors_of(laid_out), tensors_of(out)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    again = export_stages.run_export(tmp_path, laid_out, tmp_path / "again", threads=1)
    assert run.moved == again.moved == 0
    assert set(run.stages) == set(export_stages.STAGES)
    assert all(0 < each < run.export for each in run.stages.values())
    text = "\n".join(export_stages.section("title", base, [2.0, 1.0, 3.0], [run]))
    assert "| 2.00 | 2.00 1.00 3.00 | 1.00 × |" in text
    assert f"| {run.export:.2f} | {run.export:.2f} | {run.export / 2:.2f} × |" in text
    assert f"{run.export / 2:.1f} × the copy (wanted ≤ 2: " in text


@pytest.mark.slow
def test_processes_share_the_completions_of_one(tmp_path):
    job = Job(prompts=4, batch_size=2, max_new_tokens=6)
    generation_processes.write_share(job, tmp_path)
    one = generation_processes.read_run(tmp_path, Way(1, 1), whole=60.0)
    two = generation_processes.run(Way(2, 1), job)
    assert len(one.texts) == 4 and all(one.texts.values())
    assert two.texts == one.texts
    assert len(two.shares) == 2 and all(0 < seconds < two.whole for seconds in two.shares)
    records = tmp_path / "generations.jsonl"
    (tmp_path / "generations.rank-0001.jsonl").write_bytes(records.read_bytes())
    with pytest.raises(RuntimeError, match="2 processes, 1 thread each: two of them wrote"):
        generation_processes.read_run(tmp_path, Way(2, 1), whole=60.0)


def test_several_processes_are_told_beside_perfect_scaling():
    one = [Run((seconds,), seconds + 4, {"a": "x", "b": "y"}) for seconds in (9.0, 10.0, 30.0)]
    two = [Run((5.0, 3.0), 12.0, {"a": "x", "b": "y"}), Run((4.0, 6.0), 14.0, {"a": "x"})]
    table = generation_processes.report({Way(1, 1): one, Way(2, 1): two}, Job(2, 1, 6), "command")
    first, second = table.splitlines()[-2:]
    assert first == (
        "| 1 process, 1 thread | 10.00 | 1.00 of 1 | 10.00 | 4.00 | 14.00 | 1.00 of 1 | 0 of 2 |"
    )
    assert second == (
        "| 2 processes, 1 thread each | 5.50 | 1.82 of 2 | 4.50 4.50 | 7.50 | 13.00 | 1.08 of 2 "
        "| 1 of 2 |"
    )
