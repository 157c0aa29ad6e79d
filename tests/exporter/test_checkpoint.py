import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from exporter.base.checkpoint import INDEX_FILE, SINGLE_FILE, open_checkpoint
from exporter.errors import CheckpointError, CheckpointMissingError


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


def test_4bit_weights_come_back_as_they_are(base_4bit):
    checkpoint = open_checkpoint(base_4bit)
    stored = load_file(base_4bit / "model.safetensors")
    assert checkpoint.is_4bit and len(checkpoint.packed) == 14
    name = "model.layers.1.mlp.down_proj"
    for key, tensor in checkpoint.read_4bit(name, (64, 160)).to_tensors(f"{name}.weight").items():
        assert torch.equal(tensor, stored[key])


def test_shards_are_found_by_the_index(sharded):
    checkpoint = open_checkpoint(sharded)
    assert len(checkpoint.shards) > 2
    assert len(checkpoint.tensors) == len(open_checkpoint(sharded).tensors) == 26


def edit_index(directory, function):
    path = directory / INDEX_FILE
    index = json.loads(path.read_text())
    function(index)
    path.write_text(json.dumps(index))


def test_a_missing_shard(sharded):
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointMissingError, match=shard.name):
        open_checkpoint(sharded)


def test_an_index_that_lies(sharded):
    def move(index):
        index["weight_map"]["model.norm.weight"] = index["weight_map"]["model.embed_tokens.weight"]

    edit_index(sharded, move)
    with pytest.raises(CheckpointError, match="model.norm.weight"):
        open_checkpoint(sharded)


def test_an_index_that_points_outside(sharded, tmp_path):
    save_file({"model.norm.weight": torch.ones(64)}, tmp_path / "secret.safetensors")
    edit_index(
        sharded,
        lambda index: index["weight_map"].update({"model.norm.weight": "../secret.safetensors"}),
    )
    with pytest.raises(CheckpointError, match="outside"):
        open_checkpoint(sharded)
    edit_index(sharded, lambda index: index.pop("weight_map"))
    with pytest.raises(CheckpointError, match="no weight_map"):
        open_checkpoint(sharded)


@pytest.mark.parametrize(
    "odd", [["a.safetensors"], 1, None, "", "..", "sub/a.safetensors"], ids=repr
)
def test_an_index_whose_files_are_no_names(odd, sharded):
    edit_index(sharded, lambda index: index["weight_map"].update({"model.norm.weight": odd}))
    with pytest.raises(CheckpointError, match="index.json: expected names of files"):
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


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x10" + b"\0" * 7 + b'{"a": 1}        '])
def test_garbage_for_weights(tmp_path, content):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="model.safetensors"):
        open_checkpoint(tmp_path)


def test_other_quantizations(base_4bit, tmp_path):
    shutil.copytree(base_4bit, tmp_path / "b")
    path = tmp_path / "b" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["bnb_4bit_quant_storage"] = "bfloat16"
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="bnb_4bit_quant_storage"):
        open_checkpoint(tmp_path / "b")
    config["quantization_config"] = {"load_in_8bit": True, "quant_method": "bitsandbytes"}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="not supported"):
        open_checkpoint(tmp_path / "b")
