"""What a choice of stored weights does to the model's output, tried out in memory.

The base stands in memory once, in float32. The weights of its target modules are exchanged for what
a format would store, and the model runs on calibration texts. With h the last hidden states, as the
output layer reads them, over all compared tokens::

    output residual = ‖h(stored) − h(restored)‖ / ‖h(base) − h(restored)‖

0 is perfect, 1 is as good as the base, and above 1 the rounding does more than the adapter.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporter.activations import Activations
from exporter.checkpoint import Checkpoint
from exporter.dense_model import head_inputs, in_float32, load_base
from exporter.fold import seen_weight
from exporter.plan import LinearUnit
from exporter.prompts import TokenPrompt
from exporter.stored import Stored, stored_weight
from tinylora import LowRankDelta


class EffectModel:
    """A base whose target modules can be given the weights that a format would store.

    Args:
        base: The base checkpoint.
        units: The plan's units of the target modules.
        deltas: Delta of each of them.
        prompts: Calibration texts.
        scratch: Directory for the modules' recorded inputs.

    Attributes:
        activations: Inputs of the target modules in the restored model.
        modules: Names of the target modules.
        base_output: h of the base, float32 ``[tokens, hidden]``.
        restored_output: h of the restored model.
    """

    def __init__(
        self,
        base: Checkpoint,
        units: Sequence[LinearUnit],
        deltas: Mapping[str, LowRankDelta],
        prompts: Sequence[TokenPrompt],
        scratch: Path,
    ) -> None:
        self._base = base
        self._units = {unit.module: unit for unit in units}
        self._deltas = deltas
        self._prompts = tuple(prompts)
        self._model: Any = in_float32(load_base(base.path)).eval()
        self.modules = tuple(self._units)
        self.base_output = self._output()
        self.store(dict.fromkeys(self.modules, "exact"))
        self.restored_output = self._output()
        self.activations = Activations(scratch)
        self.activations.record(self._model, self.modules, self._prompts)

    @property
    def change(self) -> float:
        """‖h(base) − h(restored)‖, how much the adapter changes at all."""
        return float((self.base_output - self.restored_output).double().norm())

    def store(self, choice: Mapping[str, Stored]) -> None:
        """Give modules the weights that they would be stored with."""
        for module, stored in choice.items():
            seen = seen_weight(self._units[module], self._base)
            moment = self.activations.second_moment(module) if stored == "calibrated" else None
            self.put(module, stored_weight(seen, self._deltas[module], stored, moment))

    def put(self, module: str, weight: Tensor) -> None:
        """Give a module any weight, float32 ``[out, in]``."""
        layer: nn.Linear = self._model.get_submodule(module)
        layer.weight.data = weight

    def residual(self) -> float:
        """Output residual of the model as it stands."""
        miss = float((self._output() - self.restored_output).double().norm())
        return relative(miss, self.change)

    def miss_of(self, module: str, stored: Stored) -> Tensor:
        """What storing one module alone does to h, the others being exact, ``[tokens, hidden]``."""
        self.store({module: stored})
        miss = self._output() - self.restored_output
        self.store({module: "exact"})
        return miss

    def _output(self) -> Tensor:
        return head_inputs(self._model, self._prompts)


def relative(miss: float, change: float) -> float:
    """Miss / change; where nothing was to change, 0 if nothing did, else infinite."""
    if change > 0:
        return miss / change
    return 0.0 if miss == 0 else float("inf")


def gram_matrix(misses: Iterable[Tensor]) -> Tensor:
    """⟨missᵢ, missⱼ⟩ of every pair of modules, float64 ``[n, n]``."""
    flat = torch.stack([miss.reshape(-1) for miss in misses]).double()
    return flat @ flat.T
