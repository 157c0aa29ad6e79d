"""What a bench file may say, and that its words are the exporter's."""

import inspect
from pathlib import Path
from typing import get_args

import pytest
import yaml

from evaluator.bench.config import BenchFormat, LoadableFormat, load_bench
from evaluator.bench.plan import plan_exports, plan_runs
from evaluator.errors import ConfigError
from exporter.cli import merge
from exporter.formats.registry import FORMATS, format_named

REPOSITORY = Path(__file__).resolve().parents[3]


def content(**changes):
    artifacts = [{"name": "a", "path": "a.pt"}, {"name": "b", "path": "b", "numerics": "trainer"}]
    return {
        "name": "crossed",
        "out": "out",
        "bases": [
            {"name": "small", "model": "models/small", "load": "nf4", "artifacts": artifacts},
            {"name": "large", "model": "models/large", "artifacts": [artifacts[0]]},
        ],
        "formats": [{"format": "nf4"}, {"name": "half", "format": "fp16"}],
        "suites": [{"name": "x", "path": "x"}, {"name": "y", "path": "y.jsonl"}],
        "decodings": [{"name": "greedy"}, {"name": "warm", "temperature": 0.7, "samples": 4}],
        "equivalence": {"margin": 0.04},
        **changes,
    }


@pytest.fixture
def load(tmp_path):
    def write_and_load(**changes):
        path = tmp_path / "bench.yaml"
        path.write_text(yaml.safe_dump(content(**changes)))
        return load_bench(path)

    return write_and_load


def test_everything_is_crossed_with_everything(load):
    config = load(repeat_seed=5)
    exports = plan_exports(config)
    assert [export.name for export in exports] == [
        f"{start}/{format}"
        for start in ("small/a", "small/b", "large/a")
        for format in ("nf4", "half")
    ]
    cells = plan_runs(config, exports)
    assert len({cell.out for cell in cells}) == len(cells) == 3 * 2 * 2
    cell = next(cell for cell in cells if cell.name == "small/b/y/warm")
    assert [export.name for export in cell.exports] == ["small/b/nf4", "small/b/half"]
    run = cell.run_config(cell.exports[1:])
    kinds = {"base": "base", "restored": "restored", "repeat": "restored", "half": "merged"}
    assert {arm.name: str(arm.kind) for arm in run.arms} == kinds
    base, restored, repeat, half = run.arms
    assert base.model == restored.model == repeat.model == "models/small"
    assert (base.load, base.numerics, base.artifact) == ("nf4", "fp32", None)
    assert (restored.numerics, restored.artifact, restored.seed) == ("trainer", Path("b"), None)
    assert repeat.seed == 5
    assert half.model == "out/exports/small/b/half"
    assert (run.decoding.temperature, run.decoding.samples) == (0.7, 4)
    assert (run.suite, run.equivalence.margin) == (Path("y.jsonl"), 0.04)
    assert run.reference() == restored
    assert run.factor_store == Path("out/factors")


def test_a_suite_may_be_asked_in_its_own_way(load):
    suites = [{"name": "x", "path": "x"}, {"name": "y", "path": "y", "prompt": "upstream-luogu"}]
    decodings = [{"name": "greedy", "repetition_penalty": 1.1}]
    config = load(prompt={"system": "none"}, suites=suites, decodings=decodings)
    runs = [cell.run_config(()) for cell in plan_runs(config, plan_exports(config))]
    assert {str(run.suite): run.prompt.preset for run in runs} == {"x": None, "y": "upstream-luogu"}
    assert runs[0].prompt.system == "none"
    assert {run.decoding.repetition_penalty for run in runs} == {1.1}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"formats": []}, "field formats"),
        ({"formats": [{"format": "nf5"}]}, "field formats.0.format"),
        ({"formats": [{"format": "lora"}]}, "field formats.0.format"),
        ({"formats": [{"format": "nf4"}, {"format": "nf4"}]}, "twice: nf4"),
        ({"formats": [{"name": "base", "format": "nf4"}]}, "field formats.0: the"),
        ({"suites": [{"name": "../x", "path": "x"}]}, "field suites.0.name"),
        ({"bases": [{"name": "a", "model": "m", "artifacts": []}]}, "field bases.0.artifacts"),
        ({"formats": [{"format": "auto", "target_residual": float("nan")}]}, "target_residual"),
        ({"formats": [{"format": "auto"}]}, "auto needs the field target_residual"),
        (
            {"formats": [{"format": "nf4-mixed", "prompts": "p.jsonl"}]},
            "nf4-mixed needs the field target_residual, max_bytes",
        ),
        ({"formats": [{"format": "nf4-mixed", "max_bytes": "2GB"}]}, "mixed needs the field promp"),
        ({"formats": [{"format": "nf4", "requantize": "calibrated"}]}, "calibrated needs the fie"),
    ],
)
def test_mistakes_are_named_by_their_fields(load, changes, named):
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    assert named in str(caught.value)


def test_formats_and_options_are_those_of_the_exporter():
    loadable = {name for name in FORMATS if format_named(name).library == "transformers"}
    assert set(get_args(LoadableFormat)) == loadable | {"auto"}
    known = inspect.signature(merge).parameters
    for name in BenchFormat.model_fields.keys() - {"name", "format"}:
        assert name in known, f"tinylora-export merge has no --{name}"
    for name in ("requantize", "fold_onto", "adapter_dtype"):
        ours = get_args(get_args(BenchFormat.model_fields[name].annotation)[0])
        theirs = get_args(known[name].annotation)[0]
        assert set(ours) == set(get_args(theirs))
