"""Loading an export with plain transformers: what goes wrong is a finding, not a traceback."""

import re

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
    problem = " ".join(check_load(out, format_named("bf16")()))
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


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tokenizer.json", '{"version": "1.0", "model": 3}', "cannot load the tokenizer"),
        ("chat_template.jinja", "{% for %}", "the chat template"),
        ("chat_template.jinja", "{% for i in range(10**12) %}{% endfor %}", "the chat template"),
        ("generation_config.json", '{"max_new_tokens": -1}', "max_new_tokens"),
        ("generation_config.json", "{", "generation_config.json: cannot be loaded"),
        ("processor_config.json", '{"processor_class": 3}', "processor_config.json: cannot be"),
    ],
)
def test_what_is_loaded_beside_the_weights_is_loaded_too(
    file, content, said, talking, artifact, run, tmp_path
):
    out = run(talking, artifact, "bf16").out
    assert check_load(out, format_named("bf16")()) == ()
    (out / file).write_text(content)
    problems = check_load(out, format_named("bf16")())
    assert len(problems) == 1 and re.search(said, problems[0]), problems
