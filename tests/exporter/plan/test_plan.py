"""Which tensors go where."""

from dataclasses import replace

import pytest

from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.errors import PlanError
from exporter.formats.encoding import ModuleUnit, TensorUnit
from exporter.formats.registry import FORMATS, format_named
from exporter.plan.base_weights import BaseWeights
from exporter.plan.plan import build_plan
from tests.exporter.conftest import edited
from tinylora import AdapterSizes

SIZES = AdapterSizes(rank=2, u=8, groups=1, capped=False)


def plan_of(base, format="nf4", sizes=SIZES):
    checkpoint = open_checkpoint(base)
    architecture = read_architecture(checkpoint.path, checkpoint.config)
    layout = format_named(format)()
    return build_plan(checkpoint, architecture, layout, sizes=sizes, weights=BaseWeights())


def units(plan, kind):
    return [unit for file in plan.files for unit in file.units if isinstance(unit, kind)]


@pytest.mark.parametrize("source", ["base", "base_4bit"])
# of gguf, which needs a tokenizer: formats/test_gguf.py
@pytest.mark.parametrize("layout", [format_named(name) for name in FORMATS if name != "gguf"])
def test_every_tensor_once_and_sizes_bounded(source, layout, request):
    base = request.getfixturevalue(source)
    plan = plan_of(base, layout.name)
    names = [spec.name for file in plan.files for spec in file.specs]
    assert len(names) == len(set(names))
    folds = [unit.module for unit in units(plan, ModuleUnit) if unit.fold]
    assert sorted(folds) == sorted(plan.targets)
    assert tuple(plan.folds) == plan.targets
    assert plan.max_bytes == sum(file.form.max_bytes(file.specs) for file in plan.files)
    if layout().dtype is not None and layout().for_transformers:
        carried = {unit.name for unit in units(plan, TensorUnit)}
        assert carried | {f"{u.module}.weight" for u in units(plan, ModuleUnit)} == set(names)


def test_a_rank_above_the_smallest_weight(base):
    with pytest.raises(PlanError, match="no SVD cut at rank 33"):
        plan_of(base, sizes=replace(SIZES, rank=33))
    plan_of(base, sizes=replace(SIZES, rank=32))


def test_a_packed_weight_that_the_architecture_does_not_have(base_4bit, tmp_path):
    def add(tensors):
        copies = {key: t.clone() for key, t in tensors.items() if "layers.0.mlp.up_proj" in key}
        tensors |= {key.replace("up_proj", "other_proj"): t for key, t in copies.items()}

    with pytest.raises(PlanError, match="other_proj"):
        plan_of(edited(base_4bit, tmp_path / "b", add))


def test_a_4bit_base_has_no_original_weights(base_4bit, artifact, run, tmp_path):
    with pytest.raises(PlanError, match="needs the 16-bit base"):
        run(base_4bit, artifact, "fp32", fold_onto="original")
    assert list(tmp_path.iterdir()) == []
