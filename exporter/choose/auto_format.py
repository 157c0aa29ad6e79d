"""The format of ``auto``: the first that reaches the target."""

from collections.abc import Iterator

from exporter.choose.mixed_modules import smallest_mixed
from exporter.choose.trials import Choice, Trial, Trials
from exporter.errors import TargetResidualError
from exporter.formats.dense import Bf16, Fp16, Fp32
from exporter.formats.nf4 import Nf4
from exporter.formats.nf4_embedded import Nf4Embedded


def choose_format(trials: Trials) -> Choice:
    """The format of ``auto``: the first that reaches the target.

    Raises:
        TargetResidualError: None does.
    """
    target = trials.inputs.request.goal.target_residual
    assert target is not None, "checked with the request"
    tried: list[Trial] = []
    for trial in _candidates(trials, target):
        tried.append(trial)
        if trial.residual <= target:
            return Choice("weights" if trials.model is None else "output", target, tuple(tried))
    best = min(tried, key=lambda trial: trial.residual)
    raise TargetResidualError(
        f"no format reaches a residual of {target:g}; the best is {best.format} with "
        f"{best.residual:.4g}. Allow a larger residual, or nf4-embedded, which keeps the "
        "delta: it needs peft, and numerics fp32"
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
        if not (request.goal.without_peft or request.options.numerics == "trainer"):
            yield trials.trial(Nf4Embedded(request.adapter_dtype))
        if trials.model is not None:
            yield smallest_mixed(trials, trials.model, "calibrated", target, None)
    for layout in (Bf16(), Fp16(), Fp32()):
        yield trials.trial(layout)
