"""How tensors are spread over shards, and that bytes depend on nothing but input and options."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exporter import ExportRequest, export
from tests.exporter.conftest import same_tensors, tensors_of
from tinylora import DeltaOptions

SIZE = 3e-3


def test_untied_head_and_shards(make_base, artifact, run, logits, reference_logits):
    base = make_base(tie_word_embeddings=False, max_shard_size="60KB")
    shards = len(list(base.glob("*.safetensors")))
    assert shards > 2
    out = run(base, artifact, "fp32").out
    assert len(list(out.glob("*.safetensors"))) == shards
    assert (logits(out) - reference_logits(base, SIZE)).abs().max() < 1e-5


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
