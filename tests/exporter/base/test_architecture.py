"""What is read off a model of transformers: modules, and names that it sorts out on loading."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from exporter import verify
from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.errors import CheckpointError, PlanError
from tests.exporter.conftest import SMALL, edited
from tinylora import DeltaOptions, target_names

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
VISION = {"hidden_size": 32, "intermediate_size": 48}
LINEAR = ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim")
COMPOSITES = {
    "Gemma3": (
        {"head_dim": 8},
        {"num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28, "patch_size": 14},
        {"mm_tokens_per_image": 4},
        "language_model.model.layers",
    ),
    "Qwen3_5": (
        {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}
        | {f"linear_{name}": 8 if "dim" in name else 2 for name in LINEAR},
        {"depth": 1, "num_heads": 4, "out_hidden_size": 32, "num_position_embeddings": 16},
        {},
        "model.language_model.layers",
    ),
}


def read(path, **settings):
    return read_architecture(path, settings)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Llama", "Gemma3Text", "StableLm"])
def test_architecture_is_that_of_the_model(family, tied, tmp_path):
    config = getattr(transformers, f"{family}Config")(**SMALL, tie_word_embeddings=tied)
    config.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(config)
    found = read(tmp_path)
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if tied:
        del state["lm_head.weight"]
    assert found.parameters == state and found.tied == (
        {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}
    )
    assert list(found.targets) == target_names(model) and found.same_leaf
    assert found.kept == ("lm_head",)
    assert found.linears == {name: state[f"{name}.weight"] for name in found.targets}
    skipped = read(tmp_path, quantization_config={"llm_int8_skip_modules": ["q_proj", "lm_head"]})
    queries = tuple(f"model.layers.{layer}.self_attn.q_proj" for layer in range(2))
    assert skipped.kept == tuple(sorted(("lm_head", *queries)))


def test_config_at_odds_with_itself_is_refused_in_words(base, tmp_path):
    odd = edited(base, tmp_path / "b", num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"(?s)transformers cannot build.*layer.types"):
        read(odd, **open_checkpoint(odd).config)


def renamed(change):
    """An edit of a checkpoint's tensors by their names."""

    def edit(tensors):
        for name in list(tensors):
            tensors[change(name)] = tensors.pop(name)

    return edit


def check_computes_the_restored_model(report, base, artifact):
    found = verify(report.out, load=True, base=base, artifact=artifact)
    assert found.ok, found.checks
    assert found.logits.change > 0 and found.logits.residual < 1e-3


@pytest.mark.parametrize("kind", ["16bit", "4bit"])
def test_names_without_the_prefix_of_the_model(kind, base, base_4bit, artifact, run, tmp_path):
    whole = base if kind == "16bit" else base_4bit
    odd = edited(whole, tmp_path / "tiny-qwen", renamed(lambda name: name.removeprefix("model.")))
    for format in ("fp32", "nf4"):
        names = load_file(run(odd, artifact, format, name=format).out / "model.safetensors").keys()
        usual = run(whole, artifact, format, name=f"usual-{format}").out / "model.safetensors"
        assert names == load_file(usual).keys()
    assert torch.equal(*(load_file(p)[EMBEDDING] for p in (usual, tmp_path / "nf4" / usual.name)))


def test_texts_show_the_effect_on_a_base_of_other_names(talking, artifact, texts, run, tmp_path):
    odd = edited(talking, tmp_path / "tiny-qwen", renamed(lambda n: n.removeprefix("model.")))
    fields = {"options": DeltaOptions(trained_on="16bit"), "check_prompts": texts(1)}
    found, usual = (
        run(base, artifact, "nf4-embedded", name=name, **fields).retention
        for name, base in (("odd", odd), ("usual", talking))
    )
    assert found == usual


def test_a_tied_model_of_which_only_the_head_is_stored(base, artifact, run, tmp_path):
    odd = edited(base, tmp_path / "b", renamed(lambda n: HEAD if n == EMBEDDING else n))
    report = run(odd, artifact, "fp32")
    check_computes_the_restored_model(report, odd, artifact)
    assert EMBEDDING in load_file(report.out / "model.safetensors")


@pytest.mark.parametrize("format", ["fp32", "nf4"])
@pytest.mark.parametrize("family", COMPOSITES)
def test_a_model_with_a_vision_part_keeps_the_names_of_its_files(
    family, format, make_artifact, run, tmp_path
):
    """As its hub has them: text-only and whole classes, and engines, find them."""
    text, vision, more, prefix = COMPOSITES[family]
    config = getattr(transformers, f"{family}Config")(
        text_config=SMALL | text, vision_config=VISION | vision, **more
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).save_pretrained(base := tmp_path / "b")
    try:
        AutoModelForCausalLM.from_config(config)
    except AttributeError as error:  # transformers 5.7, of Qwen3.5
        pytest.skip(f"this transformers loads a text model of it, but makes none: {error}")
    count = len(target_names(AutoModelForCausalLM.from_pretrained(base)))
    artifact = make_artifact(3e-1, layers=count)
    report = run(base, artifact, format)
    stored = load_file(report.out / "model.safetensors")
    assert any(name.startswith(prefix) for name in stored)
    if format == "fp32":
        assert stored.keys() == load_file(base / "model.safetensors").keys()
        check_computes_the_restored_model(report, base, artifact)
    for loader in (AutoModelForCausalLM, AutoModelForImageTextToText):
        _, info = loader.from_pretrained(report.out, output_loading_info=True)
        assert not any(info.values()), info


def test_tensors_that_nothing_accounts_for_are_named(base, artifact, run, tmp_path):
    odd = edited(base, tmp_path / "b", renamed(lambda n: n.replace("self_attn", "attention")))
    match = r"'model.layers.0.self_attn.q_proj.weight' .* is missing, and .*nothing in that model "
    with pytest.raises(PlanError, match=match + r"accounts for \d+ that are there .*attention.k"):
        run(odd, artifact, "bf16")

    def cut(tensors):
        del tensors["model.norm.weight"]

    with pytest.raises(PlanError, match=r"'model.norm.weight' \[64\] .*is missing; is the d"):
        run(edited(base, tmp_path / "c", cut), artifact, "bf16")


@pytest.mark.parametrize("format", ["fp32", "nf4-embedded"])
def test_a_head_of_its_own_beside_a_tied_config_counts(
    format, base, base_4bit, artifact, run, tmp_path
):
    def own_head(tensors):
        tensors[HEAD] = tensors[EMBEDDING].flip(0).contiguous()

    odd = edited(base if format == "fp32" else base_4bit, tmp_path / "tiny-qwen", own_head)
    assert json.loads((odd / "config.json").read_text())["tie_word_embeddings"]
    report = run(odd, artifact, format)
    assert any("says tie_word_embeddings: false" in warning for warning in report.warnings)
    assert json.loads((report.out / "config.json").read_text())["tie_word_embeddings"] is False
    model = AutoModelForCausalLM.from_pretrained(report.out)
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight.flip(0))
    if format == "fp32":
        check_computes_the_restored_model(report, odd, artifact)
