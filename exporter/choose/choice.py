"""Choosing what the user left open: the modules of ``nf4-mixed``, the format of ``auto``.

Every choice is a measurement. With calibration texts it is the output residual of the model with
the weights that would be stored (:mod:`exporter.choose.effect`); without, ``auto`` goes by the
residual ‖E − Δ‖/‖Δ‖ over all weights, which needs no model in memory and is the stricter of the two
wherever rounding errors cancel.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import Checkpoint
from exporter.choose.effect import EffectModel, gram_matrix, relative
from exporter.choose.knapsack import choose_kept
from exporter.compare.prompts import PromptSet
from exporter.errors import TargetResidualError
from exporter.fidelity import sums_of
from exporter.fold.fold import ground_weight, lora_pair, trained_weight
from exporter.formats.formats import FormatName, format_named
from exporter.plan.ground import Ground
from exporter.plan.plan import ExportPlan, LinearUnit, build_plan
from exporter.quantize.stored import Stored, stored_weight
from exporter.request import ExportRequest, RequantizeMethod
from tinylora import AdapterSizes, LowRankDelta, ModuleDeltas
from tinylora.svd.factors import weight_matrix
from tinylora.workers import in_order, workers_for

# The prediction is of first order; what it misses is made up by aiming lower and measuring again.
_MOST_ROUNDS = 8
_AIM_BELOW = 0.97


@dataclass(frozen=True)
class Trial:
    """One way of storing the model that was tried out.

    Attributes:
        format: Its format.
        requantize: How its 4-bit codes are chosen; None where none is.
        bytes: Most that its weight files take.
        residual: What was measured.
        keep: Modules that it stores in bf16 beside 4-bit ones.
    """

    format: FormatName
    requantize: RequantizeMethod | None
    bytes: int
    residual: float
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        measured_on: ``output`` or ``weights``: which residual decided.
        target: Residual that was asked for; None: as small as the bytes allow.
        trials: What was tried, in order; the last is the one chosen.
    """

    measured_on: str
    target: float | None
    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> Trial:
        """The trial that met the goal."""
        return self.trials[-1]

    @property
    def sentence(self) -> str:
        """Why, in plain words."""
        found = self.chosen
        name = found.format + (f" ({found.requantize})" if found.requantize else "")
        text = f"{name}: {self.measured_on} residual {found.residual:.3g}"
        if found.keep:
            text += f" with {len(found.keep)} modules in bf16"
        if self.target is not None:
            text += f", target {self.target:g}"
        missed = [f"{t.format}/{t.requantize or '-'} {t.residual:.3g}" for t in self.trials[:-1]]
        return text + (f"; what was tried before misses it: {', '.join(missed)}" if missed else "")

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "measured_on": self.measured_on,
            "target": self.target,
            "trials": [
                asdict(trial) | {"residual": _for_json(trial.residual)} for trial in self.trials
            ],
        }


@dataclass(frozen=True, eq=False)
class Decision:
    """A request in which nothing is left open.

    Attributes:
        request: With a concrete format, requantizer and list of modules to keep.
        choice: What was chosen; None where there was nothing to choose.
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.
    """

    request: ExportRequest
    choice: Choice | None = None
    moments: Callable[[str], Tensor] | None = None


def leaves_open(request: ExportRequest) -> bool:
    """Whether :func:`decide` has work to do, for which it needs every module's delta."""
    choosing = request.format == "auto" or (request.format == "nf4-mixed" and not request.keep)
    return choosing or request.requantize == "calibrated"


@torch.no_grad()
def decide(
    request: ExportRequest,
    base: Checkpoint,
    architecture: Architecture,
    sizes: AdapterSizes,
    deltas: ModuleDeltas,
    ground: Ground,
    texts: PromptSet | None,
    scratch: Path,
    threads: int,
    done: Callable[[str, str], None],
) -> Decision:
    """Decide what a request leaves open.

    Args:
        request: Checked.
        base: The base.
        architecture: Its modules.
        sizes: The adapter's sizes.
        deltas: The adapter's deltas.
        ground: What weights training had.
        texts: Those of the goal's ``prompts``.
        scratch: An empty directory for what lasts as long as the export.
        threads: How many may work on factors.
        done: Called with ``factors`` or ``effect`` and a module's name after each.

    Raises:
        TargetResidualError: Nothing allowed reaches the goal.
    """
    if not leaves_open(request):
        return Decision(request)
    # where training had 16 bits, auto compares with what it had, and goes among dense formats only
    dense = request.format == "auto" and ground.trained_on == "16bit"
    layout = format_named("fp32" if dense else "nf4")
    plan = build_plan(base, architecture, layout, sizes=sizes, ground=ground)
    _check_room_for_codes(request.goal.max_bytes, plan)
    units = target_units(plan)
    low_rank: dict[str, LowRankDelta] = {}

    @torch.no_grad()
    def rebuild(unit: LinearUnit) -> LowRankDelta:
        return deltas.module(unit.module, partial(trained_weight, unit, base)).low_rank()

    largest = max(unit.shape[0] * unit.shape[1] for unit in units)
    with closing(in_order(rebuild, units, workers_for(threads, largest))) as rebuilt:
        for unit, delta in zip(units, rebuilt, strict=True):
            low_rank[unit.module] = delta
            done("factors", unit.module)
    effect = None
    if texts is not None:
        effect = EffectModel(base, units, low_rank, texts.prompts, scratch)
    choice = None
    if request.format in ("auto", "nf4-mixed") and not request.keep:
        chooser = _Chooser(
            request, base, architecture, sizes, low_rank, ground, units, effect, done
        )
        request, choice = chooser.decide()
    moments = None
    if effect is not None and request.requantize == "calibrated":
        moments = effect.activations.second_moment
    return Decision(request, choice, moments)


def _check_room_for_codes(max_bytes: int | None, plan: ExportPlan) -> None:
    """Refuse, before anything is computed, bytes that do not even hold all modules in 4 bits.

    Raises:
        TargetResidualError: With what is needed.
    """
    if max_bytes is not None and max_bytes < plan.max_bytes:
        raise TargetResidualError(
            f"--max-bytes {max_bytes}: the model in nf4 alone may take up to {plan.max_bytes} bytes"
        )


@dataclass(frozen=True, eq=False)
class _Chooser:
    """Everything that a choice is made from.

    Attributes:
        request: What was asked.
        base: The base.
        architecture: Its modules.
        sizes: The adapter's sizes.
        deltas: Delta of each target module.
        ground: What weights training had.
        units: What a candidate's weights are compared on.
        effect: The model on calibration texts; None without texts.
        done: Called after each module's effect is known.
    """

    request: ExportRequest
    base: Checkpoint
    architecture: Architecture
    sizes: AdapterSizes
    deltas: Mapping[str, LowRankDelta]
    ground: Ground
    units: Sequence[LinearUnit]
    effect: EffectModel | None
    done: Callable[[str, str], None]

    def decide(self) -> tuple[ExportRequest, Choice]:
        """The request with everything decided.

        Raises:
            TargetResidualError: Nothing allowed reaches the target.
        """
        choice = self._mixed() if self.request.format == "nf4-mixed" else self._auto()
        found = choice.chosen
        request = replace(
            self.request,
            format=found.format,
            requantize=found.requantize or "preserve",
            keep=found.keep,
        )
        return request, choice

    def _auto(self) -> Choice:
        goal = self.request.goal
        target = goal.target_residual
        assert target is not None, "checked with the request"
        trials: list[Trial] = []
        for trial in self._candidates(target):
            trials.append(trial)
            if trial.residual <= target:
                return Choice(self._measure, target, tuple(trials))
        best = min(trials, key=lambda t: t.residual)
        raise TargetResidualError(
            f"no format reaches a residual of {target:g}; the best is {best.format} with "
            f"{best.residual:.4g}. Allow a larger residual, or nf4-embedded, which keeps the "
            "delta: it needs peft, and numerics fp32"
        )

    @property
    def _measure(self) -> str:
        return "weights" if self.effect is None else "output"

    def _candidates(self, target: float) -> Iterator[Trial]:
        """Formats, those in 4 bits first; each is measured when it is asked for.

        ``nf4-embedded`` stands before ``nf4-mixed``, which may be smaller where a model is small
        beside its adapter, but has to run the model once for every module.
        """
        if self.ground.trained_on == "4bit":
            yield from self._candidates_in_4_bits(target)
        yield self._trial("bf16", None, "bf16")
        yield self._trial("fp16", None, "fp16")
        yield self._trial("fp32", None, "exact")

    def _candidates_in_4_bits(self, target: float) -> Iterator[Trial]:
        yield self._trial("nf4", "preserve", "preserve")
        yield self._trial("nf4", "recompute", "recompute")
        if self.effect is not None:
            yield self._trial("nf4", "calibrated", "calibrated")
        # the trainer's roundings happen to a product of which an adapter holds the factors
        if not (self.request.goal.without_peft or self.request.options.numerics == "trainer"):
            yield self._embedded()
        if self.effect is not None:
            yield self._smallest_mixed(self.effect, "calibrated", target, None)

    def _mixed(self) -> Choice:
        goal, effect = self.request.goal, self.effect
        assert effect is not None, "checked with the request"
        target = goal.target_residual
        trial = self._smallest_mixed(effect, self.request.requantize, target or 0.0, goal.max_bytes)
        if target is not None and trial.residual > target:
            budget = "" if goal.max_bytes is None else f" within {goal.max_bytes} bytes"
            raise TargetResidualError(
                f"nf4-mixed does not reach an output residual of {target:g}{budget}: the best is "
                f"{trial.residual:.4g} with {len(trial.keep)} of {len(effect.modules)} modules in "
                f"bf16 ({trial.bytes} bytes). Ask for less, give more bytes, or use nf4-embedded"
            )
        return Choice("output", target, (trial,))

    def _smallest_mixed(
        self, effect: EffectModel, method: RequantizeMethod, target: float, max_bytes: int | None
    ) -> Trial:
        """The fewest bf16 modules that reach a target, or the best choice within the bytes."""
        gram = gram_matrix(self._misses(effect, method))
        extra = [_extra_bytes(unit) for unit in target_units(self._plan("nf4"))]
        aim, tried = _AIM_BELOW * target, set[tuple[str, ...]]()
        for round_ in range(_MOST_ROUNDS):
            if round_ == _MOST_ROUNDS - 1:
                aim = 0.0  # the prediction does not hold here: all that the bytes allow
            chosen = self._within(max_bytes, gram, extra, aim * effect.change)
            keep = tuple(effect.modules[index] for index in sorted(chosen))
            effect.store(dict.fromkeys(effect.modules, method) | dict.fromkeys(keep, "bf16"))
            residual = effect.residual()
            if residual <= target or aim == 0 or keep in tried:
                break
            tried.add(keep)
            aim *= _AIM_BELOW * target / residual
        return Trial("nf4-mixed", method, self._bytes("nf4-mixed", keep), residual, keep)

    def _misses(self, effect: EffectModel, method: RequantizeMethod) -> Iterator[Tensor]:
        for module in effect.modules:
            yield effect.miss_of(module, method)
            self.done("effect", module)

    def _within(
        self, max_bytes: int | None, gram: Tensor, extra: Sequence[int], target: float
    ) -> list[int]:
        """Modules to keep so that the files, headers and all, take at most the bytes."""
        if max_bytes is None:
            return choose_kept(gram, extra, target=target)
        budget, names = max_bytes - self._bytes("nf4"), self.architecture.targets
        while True:
            chosen = choose_kept(gram, extra, target=target, budget=budget)
            excess = self._bytes("nf4-mixed", [names[i] for i in chosen]) - max_bytes
            if excess <= 0:
                return chosen
            budget -= excess  # larger modules may take more shards, each with a header

    def _trial(self, name: FormatName, method: RequantizeMethod | None, stored: Stored) -> Trial:
        if self.effect is None:
            residual = self._weight_residual(partial(self._added, stored))
        else:
            self.effect.store(dict.fromkeys(self.effect.modules, stored))
            residual = self.effect.residual()
        return Trial(name, method, self._bytes(name), residual)

    def _embedded(self) -> Trial:
        """The base, and beside it the pair as its dtype rounds it."""
        pairs = {name: self._stored_pair(delta) for name, delta in self.deltas.items()}
        if self.effect is None:
            residual = self._weight_residual(lambda unit: pairs[unit.module].dense())
        else:
            for unit in self.units:
                seen = ground_weight(unit, self.base)
                self.effect.put(unit.module, stored_weight(seen, pairs[unit.module], "exact"))
            residual = self.effect.residual()
        return Trial("nf4-embedded", None, self._bytes("nf4-embedded"), residual)

    def _stored_pair(self, delta: LowRankDelta) -> LowRankDelta:
        dtype = self.request.pair_dtype
        right, left = lora_pair(delta, balanced=True)
        return LowRankDelta(left.to(dtype).float(), right.to(dtype).float())

    def _added(self, stored: Stored, unit: LinearUnit) -> Tensor:
        seen = ground_weight(unit, self.base)
        return stored_weight(seen, self.deltas[unit.module], stored) - weight_matrix(seen)

    def _weight_residual(self, added: Callable[[LinearUnit], Tensor]) -> float:
        """‖E − Δ‖/‖Δ‖ over all target modules, one at a time, from the E of each."""
        miss, wanted = [], []
        for unit in self.units:
            sums = sums_of(added(unit), self.deltas[unit.module].dense())
            miss.append(sums.miss)
            wanted.append(sums.delta)
        return relative(math.sqrt(math.fsum(miss)), math.sqrt(math.fsum(wanted)))

    def _plan(self, name: FormatName, keep: Sequence[str] = ()) -> ExportPlan:
        return build_plan(
            self.base,
            self.architecture,
            format_named(name),
            sizes=self.sizes,
            ground=self.ground,
            max_shard_size=self.request.max_shard_size,
            keep=keep,
            adapter_dtype=self.request.pair_dtype,
        )

    def _bytes(self, name: FormatName, keep: Sequence[str] = ()) -> int:
        return self._plan(name, keep).max_bytes


def _for_json(residual: float) -> float | None:
    """Six digits; None where the stored weights do not even fit, which JSON has no number for."""
    return float(f"{residual:.6g}") if math.isfinite(residual) else None


def target_units(plan: ExportPlan) -> list[LinearUnit]:
    """Units into which a merged plan folds, in the order of the random stream."""
    found = {
        unit.module: unit
        for file in plan.files
        for unit in file.units
        if isinstance(unit, LinearUnit) and unit.fold
    }
    return [found[module] for module in plan.targets]


def _extra_bytes(unit: LinearUnit) -> int:
    """What storing a module in bf16 costs beyond 4 bits."""
    in_16_bits = 2 * unit.shape[0] * unit.shape[1]
    return max(in_16_bits - sum(spec.max_bytes for spec in unit.outputs), 1)
