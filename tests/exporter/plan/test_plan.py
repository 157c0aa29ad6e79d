"""What cannot be planned, how tensors are spread over shards, and what bytes depend on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exporter import ExportRequest, export
from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.errors import PlanError
from exporter.formats.nf4 import Nf4
from exporter.plan.base_weights import BaseWeights
from exporter.plan.plan import build_plan
from tests.exporter.conftest import edited, same_tensors, tensors_of
from tinylora import AdapterSizes, DeltaOptions

SIZES = AdapterSizes(rank=2, u=8, groups=1, capped=False)


def plan_of(base, sizes=SIZES):
    checkpoint = open_checkpoint(base)
    architecture = read_architecture(checkpoint.path, checkpoint.config)
    return build_plan(checkpoint, architecture, Nf4(), sizes=sizes, weights=BaseWeights())


def test_a_rank_above_the_smallest_weight(base):
    with pytest.raises(PlanError, match="no SVD cut at rank 33"):
        plan_of(base, sizes=replace(SIZES, rank=33))
    plan_of(base, sizes=replace(SIZES, rank=32))


def test_a_packed_weight_that_the_architecture_does_not_have(base_4bit, tmp_path):
    def add(tensors):
        copies = {key: t.clone() for key, t in tensors.items() if "layers.0.mlp.up_proj" in key}
        tensors |= {key.replace("up_proj", "other_proj"): t for key, t in copies.items()}

    with pytest.raises(PlanError, match="other_proj"):
        plan_of(edited(base_4bit, tmp_path / "b", add))


def test_a_4bit_base_has_no_original_weights(base_4bit, artifact, run, tmp_path):
    with pytest.raises(PlanError, match="needs the 16-bit base"):
        run(base_4bit, artifact, "fp32", fold_onto="original")
    assert list(tmp_path.iterdir()) == []


def test_untied_head_and_shards(make_base, artifact, run, logits, reference_logits):
    base = make_base(tie_word_embeddings=False, max_shard_size="60KB")
    shards = len(list(base.glob("*.safetensors")))
    assert shards > 2
    out = run(base, artifact, "fp32").out
    assert len(list(out.glob("*.safetensors"))) == shards
    assert (logits(out) - reference_logits(base, 3e-3)).abs().max() < 1e-5


@settings(max_examples=8)
@given(limit=st.integers(1, 700_000), format=st.sampled_from(("nf4", "nf4-embedded", "bf16")))
def test_any_limit_gives_every_tensor_once(limit, format, base, artifact, tmp_path_factory):
    where = tmp_path_factory.mktemp("limit")
    whole = export(ExportRequest(base, artifact, where / "whole", format=format)).out
    request = ExportRequest(base, artifact, where / "out", format=format, max_shard_size=limit)
    out = export(request).out
    shards = {p.name: load_file(p) for p in sorted(out.glob("model*.safetensors"))}
    wanted = tensors_of(whole)
    assert sum(map(len, shards.values())) == len(wanted)
    same_tensors(tensors_of(out), wanted)
    for tensors in shards.values():
        units = {name.partition(".weight.")[0].removesuffix(".weight") for name in tensors}
        assert sum(t.nbytes for t in tensors.values()) <= limit or len(units) == 1
    if len(shards) > 1:
        index = json.loads((out / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in wanted.values())
        assert index["weight_map"] == {n: file for file, ts in shards.items() for n in ts}
    else:
        assert Path(out / "model.safetensors").is_file()
    AutoModelForCausalLM.from_pretrained(out)


@pytest.mark.parametrize("svd", ["exact", "fast"])
def test_bytes_do_not_depend_on_threads_or_place(svd, base, artifact, run):
    before, found = torch.get_num_threads(), {1: [], 3: []}
    try:
        for threads, files in found.items():
            torch.set_num_threads(threads)
            for format in ("nf4", "nf4-embedded", "fp32"):
                place = {"name": f"{format}-{threads}", "options": DeltaOptions(svd=svd)}
                files.append(run(base, artifact, format, **place).files)
    finally:
        torch.set_num_threads(before)
    assert found[1] == found[3]
