"""Trying out formats: what each would store, measured before anything is written."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from exporter.choose.trial_model import TrialModel, relative
from exporter.errors import FoldError
from exporter.fold.read_weights import place_of, read_weight
from exporter.formats.encoding import Fold
from exporter.formats.format import Format
from exporter.inputs import Inputs
from exporter.plan.plan import ExportPlan
from exporter.quantize.method import RequantizeMethod
from tinylora import LowRankDelta


@dataclass(frozen=True)
class Trial:
    """A way of storing the model that was tried; its residual is infinite where it does not fit."""

    format: str
    requantize: RequantizeMethod | None
    bytes: int
    residual: float
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What was chosen, the last trial, and why.

    Attributes:
        measured_on: ``output`` or ``weights``: which residual decided.
        target: Residual that was asked for; None: as small as the bytes allow.
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
        """For the manifest; None stands for an infinite residual, which JSON has no number for."""
        trials = [asdict(trial) for trial in self.trials]
        for trial in trials:
            residual = trial["residual"]
            trial["residual"] = float(f"{residual:.6g}") if math.isfinite(residual) else None
        return {"measured_on": self.measured_on, "target": self.target, "trials": trials}


@dataclass(frozen=True, eq=False)
class Trials:
    """Everything that a trial is made from; ``model`` is None without calibration texts."""

    inputs: Inputs
    deltas: Mapping[str, LowRankDelta]
    model: TrialModel | None
    done: Callable[[str, str], None]

    def trial(self, layout: Format) -> Trial:
        """Measure a format: on the output where there are texts, else on the weights."""
        plan = self.inputs.plan(layout)
        try:
            if self.model is None:
                residual = self._weight_residual(plan)
            else:
                self.model.store({name: unit.encoding for name, unit in plan.folds.items()})
                residual = self.model.residual()
        except FoldError:  # too large for the format's numbers
            residual = math.inf
        method = getattr(layout, "requantize", None)
        return Trial(layout.name, method, plan.max_bytes, residual, layout.kept)

    def _weight_residual(self, plan: ExportPlan) -> float:
        """‖E − Δ‖/‖Δ‖ over all target modules, one at a time."""
        miss, wanted = [], []
        for module, unit in plan.folds.items():
            where = place_of(f"{module}.weight", self.inputs.base)
            fold = Fold(module, where, read_weight(unit, self.inputs.base), self.deltas[module])
            sums = unit.encoding.encode(fold).sums
            assert sums is not None, "a fold is measured"
            miss.append(sums.miss)
            wanted.append(sums.delta)
        return relative(math.sqrt(math.fsum(miss)), math.sqrt(math.fsum(wanted)))
