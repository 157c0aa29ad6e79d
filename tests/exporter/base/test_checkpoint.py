import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from transformers import AutoModelForCausalLM

from exporter.base.checkpoint import INDEX_FILE, SINGLE_FILE, open_checkpoint
from exporter.errors import CheckpointError
from tests.exporter.conftest import edited


@pytest.fixture
def sharded(make_base, tmp_path):
    directory = tmp_path / "tiny-qwen"
    shutil.copytree(make_base(max_shard_size="60KB"), directory)
    return directory


def test_headers_and_tensors(base):
    checkpoint = open_checkpoint(base)
    tensors = load_file(base / "model.safetensors")
    assert checkpoint.tensors.keys() == tensors.keys() and not checkpoint.is_4bit
    for name, header in checkpoint.tensors.items():
        assert header.shape == tuple(tensors[name].shape)
        assert header.nbytes == tensors[name].nbytes
        assert torch.equal(checkpoint.read(name), tensors[name])
    with pytest.raises(CheckpointError, match="'nothing' is missing"):
        checkpoint.read("nothing")


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ("nowhere.safetensors", "nowhere"),
        ("../secret.safetensors", "outside"),
        ("model.embed_tokens.weight", "'model.norm.weight' is not in"),  # the shard of that one
        *[
            (odd, "index.json: expected names of files")
            for odd in (["a"], 1, None, "", "..", "a/b")
        ],
        ({}, "no weight_map"),
    ],
    ids=repr,
)
def test_an_index_that_lies_is_refused(place, match, sharded, tmp_path):
    save_file({"model.norm.weight": torch.ones(64)}, tmp_path / "secret.safetensors")
    path = sharded / INDEX_FILE
    weight_map = json.loads(path.read_text())["weight_map"]
    found = weight_map.get(place, place) if isinstance(place, str) else place
    index = {"weight_map": weight_map | {"model.norm.weight": found} if place != {} else {}}
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(sharded)


def test_a_single_file_comes_before_an_index_as_for_transformers(sharded):
    """A model that was saved again, in one file, over shards."""
    model = AutoModelForCausalLM.from_pretrained(sharded)
    model.model.embed_tokens.weight.data += 1
    index = (sharded / INDEX_FILE).read_bytes()
    model.save_pretrained(sharded)
    (sharded / INDEX_FILE).write_bytes(index)  # which this transformers removes
    name = "model.embed_tokens.weight"
    found = open_checkpoint(sharded).read(name)
    assert torch.equal(found, load_file(sharded / SINGLE_FILE)[name])
    loaded = AutoModelForCausalLM.from_pretrained(sharded)
    assert torch.equal(found, loaded.get_parameter(name).data)


def test_a_tensor_in_two_shards(sharded):
    shard = sorted(sharded.glob("*.safetensors"))[0]
    tensors = load_file(shard)
    tensors["model.norm.weight"] = torch.ones(64)
    save_file(tensors, shard)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight.*also in"):
        open_checkpoint(sharded)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"load_in_4bit": True, "bnb_4bit_quant_storage": "bfloat16"}, "bnb_4bit_quant_storage"),
        ({"load_in_8bit": True, "quant_method": "bitsandbytes"}, "not supported"),
        (None, "config.json: has no quantization_config, and 14"),
    ],
)
def test_other_quantizations(settings, match, base_4bit, tmp_path):
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(edited(base_4bit, tmp_path / "b", quantization_config=settings))


@pytest.mark.parametrize(
    ("dtype", "config"),
    [
        (torch.float8_e4m3fn, {"quantization_config": {"quant_method": "fp8"}}),
        (torch.float8_e4m3fn, {}),
        (torch.uint32, {"quantization": {"group_size": 64, "bits": 4}}),
    ],
    ids=["fp8", "fp8 of an engine", "MLX"],
)
def test_weights_that_others_quantized_are_refused_with_what_helps(dtype, config, base, tmp_path):
    def quantize(tensors):
        name = "model.layers.0.mlp.up_proj.weight"
        tensors[name] = tensors[name].to(dtype)

    try:
        save({"x": torch.zeros(1).to(dtype)})
    except KeyError:  # safetensors 0.5, of uint32
        pytest.skip("this safetensors does not write the dtype")
    with pytest.raises(CheckpointError, match=r"up_proj.weight' has dtype .*give the base before"):
        open_checkpoint(edited(base, tmp_path / "b", quantize, **config))


def test_shards_without_their_index_are_named(sharded):
    (sharded / INDEX_FILE).unlink()
    match = r"found model-00001-of-0.*safetensors.*; download the index of these shards too"
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(sharded)
