"""The modules that ``nf4-mixed`` keeps in bfloat16, in the groups that engines run as one layer."""

import math
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from exporter.choose.knapsack import choose_kept
from exporter.choose.trial_model import TrialModel, gram_matrix
from exporter.choose.trials import Choice, Trial, Trials
from exporter.errors import TargetResidualError
from exporter.formats.encoding import ModuleUnit
from exporter.formats.fused import fused_group
from exporter.formats.nf4 import Nf4Mixed
from exporter.quantize.method import RequantizeMethod

# The prediction is of first order; what it misses is made up by aiming lower and measuring again.
_MOST_ROUNDS = 8
_AIM_BELOW = 0.97


def choose_modules(trials: Trials) -> Choice:
    """Choose the modules that a request for ``nf4-mixed`` leaves open."""
    request, model = trials.inputs.request, trials.model
    assert model is not None, "checked with the request"
    target = request.target_residual
    trial = smallest_mixed(trials, model, request.requantize, target or 0.0, request.max_bytes)
    if target is not None and trial.residual > target:
        budget = "" if request.max_bytes is None else f" within {request.max_bytes} bytes"
        raise TargetResidualError(
            f"nf4-mixed does not reach an output residual of {target:g}{budget}; the best is "
            f"{trial.residual:.4g} in {trial.bytes} bytes; ask for less, or use nf4-embedded"
        )
    return Choice("output", target, (trial,))


def smallest_mixed(
    trials: Trials,
    model: TrialModel,
    method: RequantizeMethod,
    target: float,
    max_bytes: int | None,
) -> Trial:
    """The fewest bf16 modules that reach an output residual, or the best within the bytes."""
    plan = trials.inputs.plan(Nf4Mixed(method))
    units, folds = plan.linears, plan.folds
    groups = list(dict.fromkeys(fused_group(module, units) for module in folds))

    def misses() -> Iterator[Tensor]:
        for group in groups:
            changed = {module: folds[module].encoding for module in group if module in folds}
            yield model.miss_of(changed)
            for module in changed:
                trials.done("effect", module)

    gram = gram_matrix(misses())
    extra = [max(sum(_extra_bytes(units[module]) for module in group), 1) for group in groups]

    def names(chosen: Sequence[int]) -> tuple[str, ...]:
        return tuple(module for index in sorted(chosen) for module in groups[index])

    def size(chosen: Sequence[int]) -> int:
        return trials.inputs.plan(Nf4Mixed(method, names(chosen))).max_bytes

    aim, tried = _AIM_BELOW * target, set[tuple[str, ...]]()
    for round_ in range(_MOST_ROUNDS):
        if round_ == _MOST_ROUNDS - 1:
            aim = 0.0  # the prediction does not hold here: all that the bytes allow
        keep = names(_within(max_bytes, gram, extra, aim * model.change, size))
        trial = trials.trial(Nf4Mixed(method, keep))
        if trial.residual <= target or aim == 0 or keep in tried:
            break
        tried.add(keep)
        aim *= _AIM_BELOW * target / trial.residual
    return trial


def _extra_bytes(unit: ModuleUnit) -> int:
    """What a module takes more in bf16 than as planned."""
    return 2 * math.prod(unit.shape) - sum(spec.max_bytes for spec in unit.outputs)


def _within(
    max_bytes: int | None,
    gram: Tensor,
    extra: Sequence[int],
    target: float,
    size: Callable[[Sequence[int]], int],
) -> list[int]:
    """Modules to keep so that the files, headers and all, take at most the bytes."""
    if max_bytes is None:
        return choose_kept(gram, extra, target=target)
    budget = max_bytes - size(())
    while True:
        chosen = choose_kept(gram, extra, target=target, budget=budget)
        excess = size(chosen) - max_bytes
        if excess <= 0:
            return chosen
        budget -= excess  # larger modules may take more shards, each with a header
