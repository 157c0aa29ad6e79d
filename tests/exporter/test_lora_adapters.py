"""LoRA adapters into every format: PEFT itself makes them and says what is right."""

import json

import pytest
import torch
from peft import PeftModel

from exporter import inspect_adapter, verify
from exporter.errors import FoldError, PlanError, RequestError
from tests.exporter.conftest import TOKENS
from tests.exporter.talking import VOCABULARY, write_tokenizer
from tests.lora_adapters import PATTERNS, save_lora
from tests.tinylora.conftest import plain
from tinylora import DeltaOptions


@pytest.fixture(scope="module")
def lora(base, tmp_path_factory):
    """An adapter with ranks and scales of several sizes."""
    directory = tmp_path_factory.mktemp("lora") / "adapter"
    return save_lora(directory, base, size=0.2, use_rslora=True, **PATTERNS)[0]


@pytest.mark.parametrize("format", ["nf4", "nf4-embedded", "bf16"])
def test_verify_restores_the_lora_on_its_base(base, lora, run, format):
    report = run(base, lora, format)
    found = verify(report.out, load=True, base=base, artifact=lora)
    assert found.ok, found.checks
    assert found.logits.change > 1e-2
    assert found.logits.residual < (1 if format == "nf4" else 0.05)
    card = (report.out / "README.md").read_text()
    assert f"someone/tiny-qwen with a LoRA adapter ({format})" in card
    manifest = json.loads((report.out / "export_manifest.json").read_text())
    assert manifest["artifact"]["dialect"] == "lora"
    assert manifest["options"]["trained_on"] == "16bit"


@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_a_lora_of_one_rank_is_the_same_lora(source, base, lora, run, request):
    """Lower ranks are padded with zeros; PEFT loads it and gives the same logits."""
    out = run(request.getfixturevalue(source), lora, "lora").out
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 7
    with torch.no_grad():
        before = plain(base)(TOKENS).logits
        theirs, ours = (
            PeftModel.from_pretrained(plain(base), d).eval()(TOKENS).logits for d in (lora, out)
        )
    assert (theirs - ours).norm() < 1e-5 * (theirs - before).norm()


def test_qlora_is_said_by_an_option(base, lora, run):
    out = run(base, lora, "lora", options=DeltaOptions(trained_on="4bit")).out
    assert "in 4 bits" in inspect_adapter(out).remarks[-1]  # of an export of it too
    assert "--trained-on 4bit" in inspect_adapter(lora).remarks[-1]


@pytest.mark.parametrize("format", ["nf4", "lora", "auto"])
def test_factors_whose_product_overflows_are_refused(base, run, tmp_path, format):
    adapter, _ = save_lora(tmp_path / "adapter", base, size=1e44)
    goal = {"target_residual": 0.5} if format == "auto" else {}
    with pytest.raises(FoldError, match="does not fit float32.*file is damaged"):
        run(base, adapter, format, **goal)


def test_a_choice_by_texts_needs_an_untouched_head(make_base, texts, run, tmp_path):
    base = make_base(tie_word_embeddings=False, vocab_size=VOCABULARY)
    write_tokenizer(base)
    adapter, _ = save_lora(tmp_path / "adapter", base, target_modules=["lm_head"])
    with pytest.raises(RequestError, match="lm_head: the adapter changes the output layer"):
        run(base, adapter, "auto", prompts=texts(1), target_residual=0.1)


def test_a_lora_is_no_tinylora(base, lora, run, tmp_path):
    with pytest.raises(PlanError, match="LoRA without a trained vector.*take the format lora"):
        run(base, lora, "peft-tinylora")
    assert list(tmp_path.iterdir()) == []
