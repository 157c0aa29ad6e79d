"""Decides what the user left open: the format of ``auto``, the modules of ``nf4-mixed``.

With calibration texts every choice is by the output residual (:mod:`exporter.choose.trial_model`);
without, ``auto`` goes by ‖E − Δ‖/‖Δ‖ over all weights, which needs no model in memory.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from exporter.choose.mixed_modules import choose_modules, smallest_mixed
from exporter.choose.trial_model import TrialModel
from exporter.choose.trials import Choice, Trial, Trials
from exporter.compare.prompts import PromptSet
from exporter.errors import TargetResidualError
from exporter.fold.read_weights import checked_delta, read_weight
from exporter.formats.dense import Bf16, Fp16, Fp32
from exporter.formats.encoding import ModuleUnit
from exporter.formats.nf4 import Nf4, Nf4Embedded
from exporter.inputs import Inputs
from exporter.request import ExportRequest
from tinylora import LowRankDelta
from tinylora.workers import in_order, workers_for

Moments = Callable[[str], Tensor]


@torch.no_grad()
def decide(
    inputs: Inputs,
    texts: PromptSet | None,
    scratch: Path,
    threads: int,
    done: Callable[[str, str], None],
) -> tuple[ExportRequest, Choice | None, Moments | None]:
    """Decide what a request leaves open, or say that nothing allowed reaches the goal.

    The results are a concrete request, what was chosen if there was something to choose, and for
    ``calibrated`` mean(x xᵀ) of a module's inputs.

    ``texts`` are those of ``prompts``; ``scratch`` is an empty directory for what lasts
    as long as the export; ``done`` gets ``factors`` or ``effect`` and a module's name after each.
    """
    request = inputs.request
    if not request.leaves_open:
        return request, None, None
    # where training had 16 bits, auto goes among dense formats only
    first = Fp32() if inputs.weights.trained_on == "16bit" else Nf4()
    plan = inputs.plan(first if request.is_auto else request.layout)
    if (room := request.max_bytes) is not None and room < plan.max_bytes:
        raise TargetResidualError(
            f"--max-bytes {room}: the model in nf4 alone may take up to {plan.max_bytes} bytes"
        )
    units = list(plan.folds.values())
    low_rank: dict[str, LowRankDelta] = {}

    @torch.no_grad()
    def rebuild(unit: ModuleUnit) -> LowRankDelta:
        weight = partial(read_weight, unit, inputs.base, trained=True)
        with inputs.watch.timed("factors"):
            rebuilt = inputs.deltas.module(unit.module, weight)
        return checked_delta(unit.module, rebuilt.low_rank())

    largest = max(unit.shape[0] * unit.shape[1] for unit in units)
    with closing(in_order(rebuild, units, workers_for(threads, largest))) as rebuilt:
        for unit, delta in zip(units, rebuilt, strict=True):
            low_rank[unit.module] = delta
            done("factors", unit.module)
    model = None
    if texts is not None:
        model = TrialModel(inputs.base, units, low_rank, texts.prompts, scratch)
    trials = Trials(inputs, low_rank, model, done)
    choice = None
    if request.is_auto:
        choice = _choose_format(trials)
    elif request.leaves_modules_open:
        choice = choose_modules(trials)
    if choice is not None:
        found = choice.chosen
        method = found.requantize or "preserve"
        request = replace(request, format=found.format, requantize=method, keep=found.keep)
    moments = None
    if model is not None and request.is_calibrated:
        moments = model.second_moment
    return request, choice, moments


def _choose_format(trials: Trials) -> Choice:
    """The format of ``auto``: the first that reaches the target."""
    target = trials.inputs.request.target_residual
    assert target is not None, "checked with the request"
    tried: list[Trial] = []
    for trial in _candidates(trials, target):
        tried.append(trial)
        if trial.residual <= target:
            return Choice("weights" if trials.model is None else "output", target, tuple(tried))
    best = min(tried, key=lambda trial: trial.residual)
    raise TargetResidualError(
        f"no format reaches a residual of {target:g}; the best is {best.format} with "
        f"{best.residual:.4g}; allow more, or nf4-embedded (it needs peft, and numerics fp32)"
    )


def _candidates(trials: Trials, target: float) -> Iterator[Trial]:
    """4-bit formats first, if training had 4 bits; each is measured when it is asked for."""
    request = trials.inputs.request
    if trials.inputs.weights.trained_on == "4bit":
        yield trials.trial(Nf4("preserve"))
        yield trials.trial(Nf4("recompute"))
        if trials.model is not None:
            yield trials.trial(Nf4("calibrated"))
        # the trainer's roundings happen to a product of which an adapter holds the factors
        if not (request.without_peft or request.options.numerics == "trainer"):
            yield trials.trial(Nf4Embedded(request.adapter_dtype))
        if trials.model is not None:
            yield smallest_mixed(trials, trials.model, "calibrated", target, None)
    for layout in (Bf16(), Fp16(), Fp32()):
        yield trials.trial(layout)
