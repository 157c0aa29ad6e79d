"""`verify --serves`: whether a program serves what was trained."""

import json

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from exporter import verify
from exporter.cli import app
from exporter.errors import RequestError
from exporter.formats.registry import FORMATS
from exporter.serving import ENGINES, serving_problems

TARGETS = [
    f"model.layers.0.{name}"
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj")
]


def problems(engine, kept, fused=()):
    settings = {"llm_int8_skip_modules": [*kept, *fused]}
    config = {"quantization_config": settings}
    return " ".join(serving_problems(ENGINES[engine], "nf4-mixed", config, TARGETS))


def test_every_engine_has_an_answer_for_every_format():
    assert all(set(engine.answers) == set(FORMATS) for engine in ENGINES.values())


def test_engines_that_fuse_layers_need_whole_groups_under_their_names():
    whole, fused = TARGETS[:3], ["model.layers.0.self_attn.qkv_proj"]
    for engine in ("vllm", "sglang"):
        assert problems(engine, whole, fused) == ""
        assert problems(engine, TARGETS[3:]) == ""  # runs alone
        assert "does not have model.layers.0.self_attn.qkv_proj" in problems(engine, whole)
        assert "as one layer, and only a part" in problems(engine, TARGETS[:1])
    assert problems("transformers", TARGETS[:1]) == ""


@pytest.mark.filterwarnings("ignore")  # of the libraries' own loading
def test_peft_puts_no_tinylora_on_4_bits_as_is_said(run, base, base_4bit, artifact):
    out = run(base, artifact, "peft-tinylora").out
    with pytest.raises((TypeError, RuntimeError)):
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_4bit), out)
    said = ENGINES["transformers"].answers
    assert "16 or 32 bits" in said["peft-tinylora"].text
    assert "as training had it" in said["lora"].text


@pytest.mark.parametrize(
    ("format", "serving"),
    [
        ("nf4-embedded", {"transformers"}),
        ("bf16", {"transformers", "vllm", "sglang"}),
        ("lora", {"transformers", "vllm", "sglang"}),
        ("gguf-lora", {"llama.cpp"}),
    ],
)
def test_an_export_is_served_by_those_that_know_it(run, base, artifact, format, serving):
    out = run(base, artifact, format).out
    assert {engine for engine in ENGINES if verify(out, serves=engine).ok} == serving


def test_what_no_engine_serves_is_loaded_all_the_same(run, base, artifact):
    report = verify(run(base, artifact, "nf4-embedded").out, load=True, serves="vllm")
    loads, serves = report.checks[-2:]
    assert loads.name.startswith("loads") and loads.ok
    assert serves.name.startswith("vLLM") and not serves.ok


def test_a_mixed_export_is_kept_in_whole_groups(run, base, make_artifact):
    keep = ("model.layers.0.self_attn.q_proj",)
    out = run(base, make_artifact(0.3), "nf4-mixed", keep=keep).out
    assert verify(out, serves="vllm").ok
    config = json.loads((out / "config.json").read_text())
    names = config["quantization_config"]["llm_int8_skip_modules"]
    names.remove("model.layers.0.self_attn.qkv_proj")
    (out / "config.json").write_text(json.dumps(config))
    wrong = [problem for check in verify(out, serves="vllm").checks for problem in check.problems]
    assert any("would quantize them again" in problem for problem in wrong)


def test_a_lost_delta_is_served_by_none(run, base, make_artifact):
    out = run(base, make_artifact(3e-5), "nf4").out
    assert verify(out).ok
    found = verify(out, serves="transformers")
    assert not found.ok and "the delta was lost in rounding" in found.checks[-1].problems[0]


def test_an_engine_does_not_need_the_peft_of_transformers(run, base, artifact, monkeypatch):
    out = run(base, artifact, "nf4-embedded").out
    monkeypatch.setattr("exporter.verification.find_spec", lambda name: None)
    (missing,) = [check for check in verify(out).checks if not check.ok]
    assert missing.name == "peft is installed" and "base alone" in missing.problems[0]
    wrong = [check.name for check in verify(out, serves="vllm").checks if not check.ok]
    assert wrong == ["vLLM serves what was trained"]


def test_the_command_says_it_in_words_and_ends_with_1(run, base, artifact):
    out = str(run(base, artifact, "nf4-embedded").out)
    result = CliRunner().invoke(app, ["verify", out, "--serves", "sglang"])
    assert result.exit_code == 1
    assert "tinylora-export split" in " ".join(result.stderr.split())
    result = CliRunner().invoke(app, ["verify", out, "--serves", "transformers", "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["ok"] and found["serves"]["takes"] is True
    assert found["serves"]["engine"] == "transformers" and "peft" in found["serves"]["text"]


def test_an_unknown_engine_is_refused_with_those_that_are_known(run, base, artifact):
    out = run(base, artifact, "lora").out
    with pytest.raises(RequestError, match=r"'tgi'; known: transformers, vllm, sglang, llama\.cpp"):
        verify(out, serves="tgi")
