"""What a run keeps for its page: read back, combined by layer, refused where damaged."""

import json

import pytest

from evaluator.errors import ModelError
from evaluator.store.run_directory import RunDirectory
from evaluator.store.snapshot import LayerResidual, keep_sources, read_layers, read_problems
from tests.evaluator.report.html.made_runs import make_run


def test_layers_combine_squares(tmp_path):
    directory, _ = make_run(tmp_path)
    layers = read_layers(directory)
    assert sorted(layers) == ["bf16", "nf4"]
    # ‖miss‖² = (0.8·3)² + (0.4·4)² = 8.32 and ‖Δ‖² = 25
    expected = pytest.approx((8.32 / 25) ** 0.5)
    assert layers["nf4"] == [LayerResidual(0, expected), LayerResidual(1, expected)]
    assert read_problems(directory)["P3"].tests["t2"]["output"] == "t2 out\n"
    empty = RunDirectory(tmp_path)
    assert (read_layers(empty), read_problems(empty)) == ({}, {})


def test_fidelity_of_another_form_is_refused(tmp_path):
    (tmp_path / "fidelity.json").write_text(json.dumps({"modules": [{"module": "m"}]}))
    with pytest.raises(ModelError, match="export the checkpoint again"):
        keep_sources(RunDirectory(tmp_path), (), {"nf4": tmp_path})
