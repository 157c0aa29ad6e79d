"""What is decided before anything is written, and when that fails."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import TinyLoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from exporter import ExportRequest, export, verify
from exporter.errors import PromptError, TargetResidualError
from exporter.request import Goal


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"prompts": Path("no/texts.jsonl")}, PromptError, "no/texts.jsonl"),
        ({"check_prompts": Path("no/texts.jsonl")}, PromptError, "no/texts.jsonl"),
        ({"max_bytes": 100_000}, TargetResidualError, "--max-bytes 100000: .* up to 1"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(
    talking, artifact, texts, tmp_path, changes, error, words
):
    goal = replace(Goal(prompts=texts(1), target_residual=0.5), **changes)
    request = ExportRequest(talking, artifact, tmp_path / "out", format="nf4-mixed", goal=goal)
    steps = []
    with pytest.raises(error, match=words):
        export(request, steps.append)
    assert steps == [] and not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_peft_adapter_with_nf4_mixed(talking, texts, run, tmp_path):
    config = TinyLoraConfig(
        r=2, u=6, weight_tying=0.5, task_type="CAUSAL_LM", save_projection=True,
        target_modules=["q_proj", "v_proj", "down_proj"],
    )  # fmt: skip
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(talking), config)
    for vector in model.base_model.tinylora_v["default"].values():
        vector.data.copy_(torch.linspace(-0.3, 0.2, 6))
    model.peft_config["default"].base_model_name_or_path = "someone/tiny-qwen"
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    report = run(
        talking, tmp_path / "adapter", "nf4-mixed",
        goal=Goal(prompts=texts(1), target_residual=0.4, check_prompts=texts(2)),
    )  # fmt: skip
    keep = report.choice.chosen.keep
    assert keep and all(name.endswith(("q_proj", "v_proj", "down_proj")) for name in keep)
    assert report.retention.output_residual < 0.8
    assert verify(report.out, base=talking, artifact=tmp_path / "adapter", prompts=texts(2)).ok
