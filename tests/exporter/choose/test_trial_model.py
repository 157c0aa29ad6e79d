"""The model in memory, and the metric in which its output is compared."""

from functools import partial

import pytest
import torch

from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.choose.trial_model import EXACT, TrialModel, gram_matrix
from exporter.compare.prompts import read_prompts
from exporter.fold.read_weights import read_weight
from exporter.formats.dense import DenseWeight
from exporter.formats.nf4 import Codes, Nf4
from exporter.plan.base_weights import BaseWeights
from exporter.plan.plan import build_plan
from tests.exporter.dense_reference import dense_logits, distance, restored_weights
from tinylora import DeltaOptions, deltas_of, load_adapter

SIZE = 1e-2


@pytest.fixture(scope="module")
def prompts(talking, texts):
    return read_prompts(texts(1), talking).prompts


@pytest.fixture(scope="module")
@torch.no_grad()
def effect(talking, prompts, make_artifact, tmp_path_factory):
    base, adapter = open_checkpoint(talking), load_adapter(make_artifact(SIZE))
    architecture = read_architecture(talking, base.config)
    plan = build_plan(base, architecture, Nf4(), sizes=adapter.sizes, weights=BaseWeights())
    deltas = deltas_of(adapter, architecture.targets, DeltaOptions(), None)
    units = list(plan.folds.values())
    weights = {u.module: partial(read_weight, u, base, trained=True) for u in units}
    low_rank = {n: deltas.module(n, weight).low_rank() for n, weight in weights.items()}
    return TrialModel(base, units, low_rank, prompts, tmp_path_factory.mktemp("effect"))


class Half(DenseWeight):
    """Half of the delta."""

    def seen(self, fold):
        return fold.dense.float() + 0.5 * fold.delta.dense()


def store_all(effect, stored):
    effect.store(dict.fromkeys(effect.modules, stored))


@torch.no_grad()
def test_the_metric_is_that_of_the_logits(effect, talking, references, prompts):
    ids = [prompt.token_ids for prompt in prompts]
    truth = references(talking, SIZE)

    def reference(share):
        logits = dense_logits(talking, restored_weights(truth, share), ids)
        return [one[prompt.first :] for one, prompt in zip(logits, prompts, strict=True)]

    restored, base, half = reference(1.0), reference(0.0), reference(0.5)
    assert effect.change == pytest.approx(distance(base, restored), rel=1e-4)
    store_all(effect, Half(torch.float32))
    expected = distance(half, restored) / distance(base, restored)
    assert effect.residual() == pytest.approx(expected, rel=1e-3)
    store_all(effect, EXACT)
    assert effect.residual() == 0


@torch.no_grad()
def test_a_miss_is_that_of_one_module_whatever_stood_in_the_others(effect):
    """As when ``auto`` has tried whole formats before it comes to single modules."""
    store_all(effect, EXACT)
    clean = [effect.miss_of({module: Codes("preserve")}) for module in effect.modules]
    store_all(effect, Codes("recompute"))
    again = [effect.miss_of({module: Codes("preserve")}) for module in effect.modules]
    assert all(torch.equal(one, two) for one, two in zip(clean, again, strict=True))
    flat = torch.stack([miss.double().flatten() for miss in clean])
    torch.testing.assert_close(gram_matrix(clean), flat @ flat.T)
    for module, miss in zip(effect.modules, clean, strict=True):
        effect.store({module: Codes("preserve")})
        assert float(miss.double().norm()) / effect.change == pytest.approx(effect.residual())
        effect.store({module: EXACT})


@torch.no_grad()
def test_second_moments_are_those_of_the_inputs(effect, prompts):
    """Beside float64 sums over what hooks see, text by text and without padding."""
    store_all(effect, EXACT)
    seen = {}
    handles = [
        effect._model.get_submodule(name).register_forward_pre_hook(
            lambda module, arguments, name=name: seen.setdefault(name, []).append(arguments[0][0])
        )
        for name in effect.modules
    ]
    for prompt in prompts:
        effect._model(torch.tensor([prompt.token_ids]))
    for handle in handles:
        handle.remove()
    for module in effect.modules:
        inputs = torch.cat(seen[module]).double()
        expected = inputs.T @ inputs / len(inputs)
        found = effect.second_moment(module).double()
        assert float((found - expected).norm() / expected.norm()) < 1e-5, module
