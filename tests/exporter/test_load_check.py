"""Loading an export with plain transformers: what goes wrong is a finding, not a traceback."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from exporter import verify
from exporter.compare import load_check
from exporter.compare.load_check import check_load, compare_logits
from exporter.formats.registry import format_named
from tinylora import DeltaOptions


def change_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model_type": "nothing"}, "ValueError"),
        ({"hidden_size": 96}, "RuntimeError"),
        ({"hidden_act": "nothing"}, "KeyError"),
    ],
)
def test_an_export_that_transformers_rejects_is_a_problem(changes, error, base, artifact, run):
    out = run(base, artifact, "bf16").out
    change_config(out, **changes)
    problem = " ".join(check_load(out, format_named("bf16")))
    assert problem.startswith(f"{out}: cannot be loaded and run ({error}") and "\n" not in problem


def test_an_export_that_fails_when_it_runs_is_a_problem(base, artifact, run, monkeypatch):
    """Simulation of what bitsandbytes' kernels do to rows that they cannot read."""
    out = run(base, artifact, "nf4").out

    def refuse(*arguments, **options):
        raise RuntimeError("shape '[64, 2]' is invalid\nfor input of size 160")

    monkeypatch.setattr("bitsandbytes.matmul_4bit", refuse)
    report = verify(out, load=True)
    assert not report.ok and report.checks[-1].name == "loads with plain transformers"
    assert "size 160" in report.checks[-1].problems[0]


def test_a_comparison_runs_on_one_thread(base, artifact, run, monkeypatch):
    """Sums over a large weight's scales would otherwise differ with the number of threads."""
    used = []
    for name in ("load_exact", "restored_model", "in_float32"):
        honest = getattr(load_check, name)

        def noted(*arguments, honest=honest, **options):
            used.append(torch.get_num_threads())
            return honest(*arguments, **options)

        monkeypatch.setattr(load_check, name, noted)
    out = run(base, artifact, "nf4-embedded").out
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = compare_logits(out, base, artifact, DeltaOptions())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert used == [1, 1, 1] and found.residual < 1e-2


@pytest.mark.parametrize("format", ["nf4", "nf4-embedded", "bf16"])
def test_everything_is_loaded_on_the_cpu(format, base, artifact, run, monkeypatch):
    """Simulation, where there is no GPU, to which 4-bit models would go: what is asked for."""
    out = run(base, artifact, format).out
    honest, asked = AutoModelForCausalLM.from_pretrained, []

    def noted(*arguments, **options):
        asked.append(options.get("device_map"))
        return honest(*arguments, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", noted)
    assert verify(out, load=True, base=base, artifact=artifact).ok
    assert asked == ["cpu"] * 3  # the check, the export and the base
