"""``nf4-mixed``: the modules that stay in bf16, measured again from the finished files."""

import json

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM

from exporter import verify
from exporter.compare.prompts import read_prompts
from exporter.errors import PlanError, TargetResidualError
from tests.exporter.conftest import SUFFIXES, same_tensors, tensors_of
from tests.exporter.dense_reference import dense_logits, distance, restored_weights, weights_of
from tests.lora_adapters import save_lora

SIZE = 3e-2
LAYERS = [f"model.layers.{i}.{suffix}" for i in range(2) for suffix in SUFFIXES]


@pytest.fixture(scope="module")
def calibration(texts):
    return texts(1)


@pytest.fixture(scope="module")
def residual_of(talking, references, calibration):
    """Output residual of a finished export on the calibration texts, in float64."""
    prompts = read_prompts(calibration, talking).prompts
    truth = references(talking, SIZE)

    def logits(weights):
        every = dense_logits(talking, weights, [p.token_ids for p in prompts])
        return [one[p.first :] for one, p in zip(every, prompts, strict=True)]

    restored, base = (logits(restored_weights(truth, share)) for share in (1.0, 0.0))

    def measure(directory):
        return distance(logits(weights_of(directory)), restored) / distance(base, restored)

    return measure


def weight_bytes(directory):
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


@pytest.fixture
def mixed(talking, make_artifact, run, calibration):
    """``mixed(base, **fields)``: an export whose modules are chosen by the calibration texts."""

    def call(base=talking, target_residual=None, max_bytes=None, **fields):
        goal = {"target_residual": target_residual, "max_bytes": max_bytes}
        artifact = make_artifact(SIZE)
        return run(base, artifact, "nf4-mixed", prompts=calibration, **goal, **fields)

    return call


@pytest.fixture(scope="module")
def bases(talking, make_4bit):
    skipped = ("model.layers.0.mlp.up_proj", "model.layers.1.self_attn.o_proj")
    return {"16-bit": (talking, ()), "4-bit": (make_4bit(talking, skipped), skipped)}


@pytest.mark.parametrize(("kind", "method"), [("16-bit", "calibrated"), ("4-bit", "preserve")])
def test_loads_plainly_with_the_chosen_modules_in_bf16(
    bases, mixed, make_artifact, run, calibration, kind, method
):
    base, skipped = bases[kind]
    report = mixed(base, requantize=method, target_residual=0.3)
    keep = set(report.choice.chosen.keep)
    assert 0 < len(keep) < 14 and report.format == "nf4-mixed"
    model = AutoModelForCausalLM.from_pretrained(report.out)
    for name in LAYERS:
        layer = model.get_submodule(name)
        dense = name in keep or name in skipped
        assert isinstance(layer, Linear4bit) is not dense, name
        if dense:
            assert layer.weight.dtype == torch.bfloat16
    with torch.no_grad():
        assert bool(torch.isfinite(model(torch.arange(9).unsqueeze(0)).logits).all())
    # every other module is, byte for byte, that of an nf4 export
    prompts = calibration if method == "calibrated" else None
    fields = {"requantize": method, "prompts": prompts, "name": "plain"}
    plain = tensors_of(run(base, make_artifact(SIZE), "nf4", **fields).out)
    found = tensors_of(report.out)
    weights = {f"{module}.weight" for module in keep}
    of_kept = {name for name in plain if name.startswith(tuple(weights))}
    assert weights < found.keys()
    same_tensors(
        {name: found[name] for name in found.keys() - weights},
        {name: plain[name] for name in plain.keys() - of_kept},
    )
    assert verify(report.out, load=True).ok
    manifest = json.loads((report.out / "export_manifest.json").read_text())
    assert set(manifest["kept_16bit"]) == keep | set(skipped) | {"lm_head"}
    assert manifest["choice"] == json.loads(json.dumps(report.choice.as_dict()))
    assert report.choice.sentence in (report.out / "README.md").read_text()


@pytest.mark.parametrize(
    ("method", "target"), [("preserve", 0.1), ("recompute", 0.5), ("calibrated", 0.2)]
)
def test_the_target_is_met_by_the_files(mixed, residual_of, method, target):
    report = mixed(requantize=method, target_residual=target)
    found = residual_of(report.out)
    assert found <= target * (1 + 1e-3)
    assert found == pytest.approx(report.choice.chosen.residual, rel=1e-2)
    assert weight_bytes(report.out) <= report.choice.chosen.bytes


def test_the_bytes_are_never_exceeded(talking, make_artifact, run, mixed, residual_of):
    artifact, fields = make_artifact(SIZE), {"max_shard_size": 20_000}
    small, large = (
        weight_bytes(run(talking, artifact, format, name=format, **fields).out)
        for format in ("nf4", "bf16")
    )
    residuals = []
    for share in (0.2, 0.7):
        budget = int(small + share * (large - small))
        report = mixed(max_bytes=budget, name=f"{share}", **fields)
        assert small < weight_bytes(report.out) <= budget
        residuals.append(residual_of(report.out))
    assert residuals[1] < residuals[0] < 1


@pytest.mark.parametrize(
    "fields", [{"target_residual": 1e-4}, {"target_residual": 0.05, "max_bytes": 130_000}]
)
def test_what_cannot_be_reached_is_said_and_leaves_nothing(mixed, tmp_path, fields):
    with pytest.raises(TargetResidualError):
        mixed(**fields)
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_modules_is_taken_as_it_is(talking, make_artifact, run, tmp_path):
    report = run(talking, make_artifact(SIZE), "nf4-mixed", keep=(LAYERS[3],))
    assert report.choice is None
    assert tensors_of(report.out)[f"{LAYERS[3]}.weight"].dtype == torch.bfloat16
    with pytest.raises(PlanError, match="layers.9"):
        run(talking, make_artifact(SIZE), "nf4-mixed", name="x", keep=("model.layers.9.mlp",))
    assert not (tmp_path / "x").exists()


def dense_layers(directory):
    """Linear layers of an export that are stored in bf16, and its ``llm_int8_skip_modules``."""
    tensors = tensors_of(directory)
    dense = {n for n in LAYERS if tensors[f"{n}.weight"].dtype == torch.bfloat16}
    config = json.loads((directory / "config.json").read_text())
    return dense, config["quantization_config"]["llm_int8_skip_modules"]


@pytest.mark.parametrize("target", [0.6, 0.4, 0.2])
def test_layers_that_engines_fuse_are_kept_together_under_both_names(bases, mixed, target):
    """vLLM quantizes again what it does not find under the name of the fused layer."""
    for kind, (base, skipped) in bases.items():
        dense, named = dense_layers(mixed(base, name=kind, target_residual=target).out)
        assert dense - set(skipped) <= set(named)
        kept = dense - set(skipped)
        assert kept
        for layer in range(2):
            at = f"model.layers.{layer}"
            for fused, parts in {"self_attn.qkv": "q k v", "mlp.gate_up": "gate up"}.items():
                prefix = f"{at}.{fused.split('.')[0]}"
                group = {f"{prefix}.{part}_proj" for part in parts.split()}
                assert not group & kept or group <= dense
                assert (f"{at}.{fused}_proj" in named) is bool(group & kept)


def test_a_part_of_a_fused_layer_is_kept_with_its_other_parts(base, base_4bit, run, tmp_path):
    """Also those that the adapter does not change."""
    adapter, _ = save_lora(tmp_path / "lora", base, target_modules=["q_proj", "down_proj"])
    q = LAYERS[0]
    report = run(base_4bit, adapter, "nf4-mixed", keep=(q,))
    dense, named = dense_layers(report.out)
    assert dense == {q, q.replace("q_proj", "k_proj"), q.replace("q_proj", "v_proj")}
    assert q.replace("q_proj", "qkv_proj") in named
    plain = run(base_4bit, adapter, "fp32", name="plain").out
    for name in dense - {q}:
        stored, wanted = (tensors_of(d)[f"{name}.weight"] for d in (report.out, plain))
        assert torch.equal(stored.float(), wanted.to(torch.bfloat16).float())
    assert verify(report.out, load=True).ok


def test_the_names_of_fused_layers_change_nothing_in_transformers(mixed):
    out = mixed(target_residual=0.3).out
    ids = torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        named = AutoModelForCausalLM.from_pretrained(out)(ids).logits
        path = out / "config.json"
        config = json.loads(path.read_text())
        settings = config["quantization_config"]
        before = settings["llm_int8_skip_modules"]
        own = [name for name in before if not name.endswith(("qkv_proj", "gate_up_proj"))]
        assert own != before
        settings["llm_int8_skip_modules"] = own
        path.write_text(json.dumps(config))
        assert torch.equal(AutoModelForCausalLM.from_pretrained(out)(ids).logits, named)


def test_a_zero_artifact_needs_no_module(talking, make_artifact, run, calibration):
    artifact, goal = make_artifact(0.0), {"prompts": calibration, "target_residual": 0.1}
    mixed = run(talking, artifact, "nf4-mixed", **goal)
    assert mixed.choice.chosen.keep == () and mixed.choice.chosen.residual == 0
    auto = run(talking, artifact, "auto", name="auto", **goal)
    assert auto.format == "nf4" and auto.choice.chosen.requantize == "preserve"
    blind = run(talking, artifact, "auto", name="blind", target_residual=0.1)
    assert blind.format == "nf4" and blind.choice.measured_on == "weights"
