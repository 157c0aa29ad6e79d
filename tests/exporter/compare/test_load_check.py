"""Loading an export with plain transformers: what goes wrong is a finding, not a traceback."""

import pytest

from exporter import verify
from exporter.compare.load_check import check_load
from exporter.formats.registry import format_named
from tests.exporter.conftest import edited


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model_type": "nothing"}, "ValueError"),
        ({"hidden_size": 96}, "RuntimeError"),
        ({"hidden_act": "nothing"}, "KeyError"),
    ],
)
def test_an_export_that_transformers_rejects_is_a_problem(
    changes, error, base, artifact, run, tmp_path
):
    out = edited(run(base, artifact, "bf16").out, tmp_path / "changed", **changes)
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
