"""Exports of real checkpoints, loaded again by plain transformers."""

import json
import subprocess

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from bitsandbytes.nn import Linear4bit
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from exporter.errors import FoldError, PlanError, RequestError
from tinylora import DeltaOptions, load_artifact, restore

SIZE = 3e-3
FORMATS = ("nf4", "nf4-embedded", "bf16", "fp16", "fp32", "lora", "peft-tinylora")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def tensors_of(directory):
    tensors = {}
    for file in sorted(directory.glob("model*.safetensors")):
        tensors |= load_file(file)
    return tensors


def same_tensors(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)), name


# --- what is in the files ---------------------------------------------------------------------


@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_zero_delta_as_nf4_is_the_quantized_base_bit_for_bit(
    source, base_4bit, make_artifact, run, request
):
    report = run(request.getfixturevalue(source), make_artifact(0.0), "nf4")
    # base_4bit holds what bitsandbytes' own quantize_4bit makes of the base
    same_tensors(tensors_of(report.out), tensors_of(base_4bit))
    assert report.verdict == "empty"
    assert report.fidelity.total.capture is None
    total = json.loads((report.out / "fidelity.json").read_text())["total"]
    assert total["capture"] is None and total["residual"] is None and total["codes_moved"] == 0


def test_zero_delta_as_nf4_is_what_transformers_makes_while_loading(base, make_artifact, run):
    out = run(base, make_artifact(0.0), "nf4").out
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, quantization_config=settings, device_map="cpu"
    )
    exported = AutoModelForCausalLM.from_pretrained(out, device_map="cpu")
    names = [name for name, module in model.named_modules() if isinstance(module, Linear4bit)]
    assert len(names) == 14
    stored = tensors_of(out)
    for name in names:
        ours = exported.get_submodule(name)
        assert isinstance(ours, Linear4bit)
        weight = model.get_submodule(name).weight
        for key, tensor in weight.quant_state.as_dict(packed=True).items():
            assert torch.equal(tensor, stored[f"{name}.weight.{key}"]), (name, key)
        assert torch.equal(weight.data, ours.weight.data)


@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_embedded_base_tensors_are_unchanged(source, base_4bit, artifact, run, request):
    report = run(request.getfixturevalue(source), artifact, "nf4-embedded")
    same_tensors(tensors_of(report.out), tensors_of(base_4bit))
    if source == "base_4bit":
        for name in ("config.json",):
            assert (report.out / name).read_bytes() == (base_4bit / name).read_bytes()


def test_preserve_moves_only_codes(base_4bit, make_artifact, run):
    report = run(base_4bit, make_artifact(5e-2), "nf4")
    before, after = tensors_of(base_4bit), tensors_of(report.out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.endswith("_proj.weight") for name in changed)
    moved = 0
    for name in changed:
        different = before[name] ^ after[name]
        moved += int((different >> 4 != 0).sum() + (different & 15 != 0).sum())
    assert moved == sum(m.codes_moved for m in report.fidelity.modules)
    assert all(m.scales_changed == 0 for m in report.fidelity.modules)


def test_recompute_changes_scales(base_4bit, make_artifact, run):
    report = run(base_4bit, make_artifact(5e-2), "nf4", requantize="recompute")
    assert sum(m.scales_changed for m in report.fidelity.modules) > 0
    total = report.fidelity.total
    assert total.residual_bound is not None and total.residual is not None


@pytest.mark.parametrize("format", ["bf16", "fp16", "fp32"])
def test_dense_dtypes_are_as_promised(base, artifact, run, format):
    out = run(base, artifact, format).out
    assert {t.dtype for t in tensors_of(out).values()} == {DTYPES[format]}
    model = AutoModelForCausalLM.from_pretrained(out)
    assert {p.dtype for p in model.parameters()} == {DTYPES[format]}
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == str(DTYPES[format]).removeprefix("torch.")


def test_dense_weights_are_the_float64_sum_rounded_once(base, artifact, run, references):
    found = references(base, SIZE)
    stored = tensors_of(run(base, artifact, "fp32").out)
    for name, weight in found["seen"].items():
        error = (stored[name].double() - (weight + found["delta"][name])).abs().max()
        assert error < 1e-8
    carried = stored.keys() - found["seen"].keys()
    for name in carried:
        assert torch.equal(stored[name], found["tensors"][name].float())


def test_folding_onto_the_original_weights(base, artifact, run, references):
    found = references(base, SIZE)
    report = run(base, artifact, "fp32", fold_onto="original")
    stored = tensors_of(report.out)
    for name, delta in found["delta"].items():
        error = (stored[name].double() - (found["tensors"][name].double() + delta)).abs().max()
        assert error < 1e-8
    assert (
        json.loads((report.out / "export_manifest.json").read_text())["options"]["fold_onto"]
        == "original"
    )
    assert report.verdict == "kept"


def test_lora_is_the_factors_themselves(base, artifact, run, references):
    found = references(base, SIZE)
    out = run(base, artifact, "lora").out
    assert not list(out.glob("model*")) and not (out / "config.json").exists()
    adapter = load_file(out / "adapter_model.safetensors")
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 2
    assert config["base_model_name_or_path"] == "someone/tiny-qwen"
    for name, delta in found["delta"].items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = adapter[f"{key}.lora_A.weight"], adapter[f"{key}.lora_B.weight"]
        assert a.dtype == b.dtype == torch.float32 and a.shape[0] == b.shape[1] == 2
        Vh = torch.linalg.svd(found["seen"][name].float(), full_matrices=False)[2][:2]
        assert torch.equal(a, Vh.bfloat16().float())
        assert float((b.double() @ a.double() - delta).norm() / delta.norm()) < 1e-6


# --- what the models compute ------------------------------------------------------------------


def test_fp32_computes_the_float64_reference(base, artifact, run, logits, reference_logits):
    exported = logits(run(base, artifact, "fp32").out)
    assert (exported - reference_logits(base, SIZE)).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # from peft
@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_embedded_and_lora_compute_the_reference(
    source, base, make_artifact, run, logits, reference_logits, request
):
    from peft import PeftModel

    where, size = request.getfixturevalue(source), 0.1
    artifact = make_artifact(size)
    wanted, plain = reference_logits(base, size), reference_logits(base, 0.0)
    change = (wanted - plain).norm()
    embedded = run(where, artifact, "nf4-embedded", name="embedded").out
    model = AutoModelForCausalLM.from_pretrained(embedded)
    assert model.peft_config
    # the layers run in bf16 or fp16: what the adapter changes must come out of that noise
    without = base_logits_like(where)
    assert ((logits(embedded) - without) - (wanted - plain)).norm() < 0.2 * change
    lora = run(where, artifact, "lora", name="lora").out
    attached = PeftModel.from_pretrained(load_4bit(where), lora)
    assert ((evaluate(attached) - without) - (wanted - plain)).norm() < 0.2 * change


def test_exports_agree_with_the_restored_model(base, artifact, run):
    from exporter import verify

    for format, limit in {"fp32": 5e-4, "nf4-embedded": 2e-3, "fp16": 0.1}.items():
        out = run(base, artifact, format, name=format).out
        report = verify(out, load=True, base=base, artifact=artifact)
        assert report.ok, report.checks
        assert report.logits.residual < limit


def test_verify_sees_the_delta_vanish_from_a_small_nf4(base, make_artifact, run):
    from exporter import verify

    artifact = make_artifact(3e-5)
    out = run(base, artifact, "nf4").out
    report = verify(out, load=True, base=base, artifact=artifact)
    assert report.ok and 0.9 < report.logits.residual < 1.1


def load_4bit(directory):
    if "quantization_config" in json.loads((directory / "config.json").read_text()):
        return AutoModelForCausalLM.from_pretrained(directory, device_map="cpu")
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
    )
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.bfloat16, quantization_config=settings, device_map="cpu"
    )


@torch.no_grad()
def evaluate(model):
    tokens = torch.arange(24).mul(37).remainder(250).unsqueeze(0)
    return model.eval()(tokens).logits.double()


def base_logits_like(directory):
    return evaluate(load_4bit(directory))


def test_trainer_numerics_fold_the_rounded_delta(base, artifact, run):
    options = DeltaOptions(numerics="trainer")
    stored = tensors_of(run(base, artifact, "fp32", options=options).out)
    model = load_4bit(base)
    restoration = restore(model, load_artifact(artifact), options)
    name = "model.layers.1.mlp.down_proj"
    delta = model.get_submodule(name).delta().detach()
    assert torch.equal(delta, delta.bfloat16().float())
    restoration.remove()
    weight = model.get_submodule(name).weight
    from bitsandbytes.functional import dequantize_4bit

    seen = dequantize_4bit(weight.data, weight.quant_state).float()
    assert torch.equal(stored[f"{name}.weight"], seen + delta)


# --- other bases --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_dtypes_pass_through_bf16_as_in_training(dtype, make_base, make_artifact, run):
    base = make_base(dtype)
    out = run(base, make_artifact(0.0), "nf4").out
    stored, source = tensors_of(out), load_file(base / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    packed, state = quantize_4bit(
        source[name].bfloat16(), compress_statistics=True, quant_type="nf4"
    )
    assert torch.equal(stored[name], packed) and torch.equal(stored[f"{name}.absmax"], state.absmax)
    norm = "model.norm.weight"
    assert torch.equal(stored[norm], source[norm].bfloat16())
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_odd_sizes_and_a_short_last_block(make_base, make_artifact, run, logits, reference_logits):
    # 2 heads of 6: q 12x20, k/v 6x20; 20·12 and 20·33 are no multiples of 64
    base = make_base(
        hidden_size=20, intermediate_size=33, head_dim=6, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=251,
    )  # fmt: skip
    artifact = make_artifact(SIZE)
    exported = logits(run(base, artifact, "fp32", name="dense").out)
    assert (exported - reference_logits(base, SIZE)).abs().max() < 1e-5
    merged = run(base, make_artifact(5e-2), "nf4", name="merged")
    assert sum(m.codes_moved for m in merged.fidelity.modules) > 0
    assert bool(torch.isfinite(logits(merged.out)).all())


def test_untied_head_and_shards(make_base, artifact, run, logits, reference_logits):
    base = make_base(tie_word_embeddings=False, max_shard_size="60KB")
    shards = len(list(base.glob("*.safetensors")))
    assert shards > 2
    out = run(base, artifact, "fp32").out
    assert len(list(out.glob("*.safetensors"))) == shards
    stored = tensors_of(out)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in stored.values())
    for name, file in index["weight_map"].items():
        with safe_open(out / file, framework="pt") as opened:
            assert name in opened.keys()  # noqa: SIM118
    assert index["weight_map"].keys() == stored.keys()
    assert (logits(out) - reference_logits(base, SIZE)).abs().max() < 1e-5


def test_max_shard_size_keeps_a_module_together(base, artifact, run):
    out = run(base, artifact, "nf4", max_shard_size=20_000).out
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 3
    for name in index:
        prefix, mark, _ = name.partition(".weight.")
        if mark:
            assert index[name] == index[f"{prefix}.weight"]
    AutoModelForCausalLM.from_pretrained(out)


def test_a_target_that_the_base_keeps_in_16_bits_is_folded_dense(
    base, artifact, run, tmp_path, make_base
):
    skipped = "model.layers.0.mlp.up_proj"
    base4 = tmp_path / "tiny-qwen-mixed"
    load_4bit(base)  # warm the import of bitsandbytes before files are made
    zero = run(base, artifact, "nf4-embedded", name="e").out
    base4.mkdir()
    from safetensors.torch import save_file

    tensors = {n: t for n, t in tensors_of(zero).items() if not n.startswith(skipped)}
    tensors[f"{skipped}.weight"] = load_file(base / "model.safetensors")[f"{skipped}.weight"]
    save_file(tensors, base4 / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((zero / "config.json").read_text())
    config["quantization_config"]["llm_int8_skip_modules"] = ["lm_head", skipped]
    (base4 / "config.json").write_text(json.dumps(config))
    report = run(base4, artifact, "nf4", name="mixed")
    stored = tensors_of(report.out)
    assert stored[f"{skipped}.weight"].dtype == torch.bfloat16
    assert not torch.equal(stored[f"{skipped}.weight"], tensors[f"{skipped}.weight"])
    model = AutoModelForCausalLM.from_pretrained(report.out)
    assert not isinstance(model.get_submodule(skipped), Linear4bit)


# --- around the weights -------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_files_around_the_weights(base, artifact, run, format):
    out = run(base, artifact, format).out
    carried = {"tokenizer_config.json", "generation_config.json", "LICENSE"}
    if format not in ("lora", "peft-tinylora"):
        for name in carried:
            assert (out / name).read_bytes() == (base / name).read_bytes()
        assert (out / "BASE_README.md").read_bytes() == (base / "README.md").read_bytes()
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    listed = {line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    assert listed == {p.name for p in out.iterdir()} - {"SHA256SUMS"}
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["options"] == manifest["options"] | {
        "format": format, "formula": "full", "rng": "cpu", "svd": "exact", "numerics": "fp32",
    }  # fmt: skip
    assert len(manifest["targets"]) == 14
    assert str(base) not in (out / "export_manifest.json").read_text()
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert ("peft` must be installed" in card) == (format == "nf4-embedded")
    rows = (out / "fidelity.csv").read_text().splitlines()
    assert len(rows) == 15


def test_the_card_and_the_manifest_say_that_the_delta_was_lost(base, make_artifact, run):
    report = run(base, make_artifact(3e-5), "nf4")
    assert report.verdict == "lost"
    assert any("LOST" in warning for warning in report.warnings)
    assert "LOST" in (report.out / "README.md").read_text()
    manifest = json.loads((report.out / "export_manifest.json").read_text())
    assert any("LOST" in warning for warning in manifest["warnings"])


def test_another_name_is_a_warning(base, make_artifact, run):
    report = run(base, make_artifact(SIZE, model_id="qwen/Another-3B"), "lora")
    assert any("Another-3B" in warning for warning in report.warnings)


def test_bytes_do_not_depend_on_threads_or_place(base, artifact, run):
    formats = ("nf4", "fp32", "lora")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = {f: run(base, artifact, f, name=f"{f}-1").files for f in formats}
        torch.set_num_threads(2)
        two = {f: run(base, artifact, f, name=f"{f}-2").files for f in formats}
    finally:
        torch.set_num_threads(before)
    assert one == two


def test_fp16_overflow_names_the_tensor(make_base, artifact, run, tmp_path):
    base = make_base()
    from safetensors.torch import save_file

    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.input_layernorm.weight"][3] = 1e5
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FoldError, match=r"layers\.1\.input_layernorm.*float16"):
        run(base, artifact, "fp16")
    assert list(tmp_path.iterdir()) == []
    assert run(base, artifact, "bf16").verdict in ("kept", "partly kept")


def test_contradicting_options(base, base_4bit, artifact, run, tmp_path):
    with pytest.raises(RequestError, match="trainer"):
        run(base, artifact, "lora", options=DeltaOptions(numerics="trainer"))
    with pytest.raises(RequestError, match="original"):
        run(base, artifact, "nf4", fold_onto="original")
    with pytest.raises(RequestError, match="recompute"):
        run(base, artifact, "fp32", requantize="recompute")
    with pytest.raises(RequestError, match="require-capture"):
        run(base, artifact, "nf4", require_capture=2.0)
    with pytest.raises(RequestError, match="q8"):
        run(base, artifact, "q8")
    with pytest.raises(PlanError, match="16-bit base"):
        run(base_4bit, artifact, "fp32", fold_onto="original")
    assert list(tmp_path.iterdir()) == []
