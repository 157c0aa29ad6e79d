import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import INDEX_FILE, SINGLE_FILE, open_checkpoint
from exporter.errors import CheckpointError, CheckpointMissingError, PlanError
from exporter.formats.formats import FORMATS, format_named
from exporter.plan.plan import LinearUnit, LoraUnit, TensorUnit, TinyUnit, build_plan
from exporter.safetensors.writer import file_bytes
from tinylora import AdapterSizes

SIZES = AdapterSizes(rank=2, u=8, groups=1, capped=False)


def plan_of(base, format="nf4", **options):
    checkpoint = open_checkpoint(base)
    architecture = read_architecture(checkpoint.path, checkpoint.config)
    return build_plan(
        checkpoint,
        architecture,
        format_named(format),
        sizes=SIZES,
        **options,
    )


def units(plan, kind):
    return [unit for file in plan.files for unit in file.units if isinstance(unit, kind)]


@pytest.fixture
def sharded(make_base, tmp_path):
    directory = tmp_path / "tiny-qwen"
    shutil.copytree(make_base(max_shard_size="60KB"), directory)
    return directory


# --- checkpoint ---------------------------------------------------------------------------------


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


# --- plan ---------------------------------------------------------------------------------------


def test_targets_are_in_the_order_of_the_random_stream(base):
    plan = plan_of(base)
    assert len(plan.targets) == 14
    leaves = [name.rsplit(".", 1)[-1] for name in plan.targets[:7]]
    assert leaves == [f"{x}_proj" for x in ("q", "k", "v", "o", "gate", "up", "down")]
    assert plan.targets[7].startswith("model.layers.1.")
    assert plan.kept == ("lm_head",)


@pytest.mark.parametrize("source", ["base", "base_4bit"])
@pytest.mark.parametrize("layout", FORMATS, ids=lambda layout: layout.name)
def test_every_tensor_once_and_sizes_bounded(source, layout, request):
    base = request.getfixturevalue(source)
    plan = plan_of(base, layout.name)
    names = [spec.name for file in plan.files for spec in file.specs]
    assert len(names) == len(set(names))
    assert plan.max_bytes == sum(file_bytes(file.specs) for file in plan.files)
    folds = [unit.module for unit in units(plan, LinearUnit) if unit.fold]
    stored = [unit.module for kind in (LoraUnit, TinyUnit) for unit in units(plan, kind)]
    assert sorted(folds + stored) == sorted(plan.targets)
    if layout.weights == "dense":
        carried = {unit.name for unit in units(plan, TensorUnit)}
        assert carried | {f"{u.module}.weight" for u in units(plan, LinearUnit)} == set(names)


def test_untied_heads_stay_in_16_bits(make_base):
    plan = plan_of(make_base(tie_word_embeddings=False))
    assert plan.kept == ("lm_head",)
    head = [u for u in units(plan, TensorUnit) if u.name == "lm_head.weight"]
    assert [spec.dtype for spec in head[0].outputs] == ["BF16"]


def test_weights_and_config_of_different_models(base, tmp_path):
    shutil.copytree(base, tmp_path / "b")
    path = tmp_path / "b" / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"intermediate_size": 160', '"intermediate_size": 128'))
    with pytest.raises(PlanError, match=r"gate_proj\.weight.*\[160, 64\].*\[128, 64\]"):
        plan_of(tmp_path / "b")
    config = json.loads(text)
    config["num_hidden_layers"] = 3
    config.pop("layer_types", None)
    path.write_text(json.dumps(config))
    with pytest.raises(PlanError, match=r"layers\.2\..*missing"):
        plan_of(tmp_path / "b")


def test_a_rank_above_the_smallest_weight(base):
    checkpoint = open_checkpoint(base)
    architecture = read_architecture(checkpoint.path, checkpoint.config)
    with pytest.raises(PlanError, match="no SVD cut at rank 33"):
        build_plan(checkpoint, architecture, format_named("nf4"), sizes=replace(SIZES, rank=33))
    build_plan(checkpoint, architecture, format_named("nf4"), sizes=replace(SIZES, rank=32))


def test_a_packed_weight_that_the_architecture_does_not_have(base_4bit, tmp_path):
    shutil.copytree(base_4bit, tmp_path / "b")
    path = tmp_path / "b" / "model.safetensors"
    tensors = load_file(path)
    prefix = "model.layers.0.mlp.up_proj.weight"
    extra = {
        key.replace("up_proj", "other_proj"): tensor.clone()
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }
    save_file(tensors | extra, path)
    with pytest.raises(PlanError, match="other_proj"):
        plan_of(tmp_path / "b")
