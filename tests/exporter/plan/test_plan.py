"""What cannot be planned."""

from dataclasses import replace

import pytest

from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.errors import PlanError
from exporter.formats.nf4 import Nf4
from exporter.plan.base_weights import BaseWeights
from exporter.plan.plan import build_plan
from tests.exporter.conftest import edited
from tinylora import AdapterSizes

SIZES = AdapterSizes(rank=2, u=8, groups=1, capped=False)


def plan_of(base, sizes=SIZES):
    checkpoint = open_checkpoint(base)
    architecture = read_architecture(checkpoint.path, checkpoint.config)
    return build_plan(checkpoint, architecture, Nf4(), sizes=sizes, weights=BaseWeights())


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
