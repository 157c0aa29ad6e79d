"""What a choice of stored weights does to the model's output, tried out in memory.

With y the logits of all compared tokens of calibration texts::

    output residual = ‖y(stored) − y(restored)‖ / ‖y(base) − y(restored)‖

Logits are never formed: with H the output layer's matrix, h its inputs and M = (HᵀH)^½,
‖(h − h′)Hᵀ‖ = ‖(h − h′)M‖, so h M ``[tokens, hidden]`` stands for them. (A soft cap on the logits,
as Gemma has, is not part of this.)
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporter.base.checkpoint import Checkpoint
from exporter.compare.float32_model import batches, head_inputs, inputs_of, load_base
from exporter.compare.prompts import TokenPrompt
from exporter.errors import RequestError
from exporter.fold.read_weights import place_of, read_weight
from exporter.formats.dense import DenseWeight
from exporter.formats.encoding import Encoding, Fold, ModuleUnit
from tinylora import LowRankDelta
from tinylora.models.batches import TensorSpool
from tinylora.models.float32_view import in_float32

EXACT = DenseWeight(torch.float32)
"""How a module is stored that has all of its delta."""

_ROWS_AT_ONCE = 1 << 14
_SKETCH = 1 << 19


class TrialModel:
    """A base in float32 whose target modules can be given the weights that a format would store.

    Attributes:
        modules: Their names.
        change: ‖y(base) − y(restored)‖, how much the adapter changes at all.
    """

    def __init__(
        self,
        base: Checkpoint,
        units: Sequence[ModuleUnit],
        deltas: Mapping[str, LowRankDelta],
        prompts: Sequence[TokenPrompt],
        scratch: Path,
    ) -> None:
        """Load the base, and keep in ``scratch`` what its modules are fed in the restored model."""
        self._base = base
        self._units = {unit.module: unit for unit in units}
        self._deltas = deltas
        self._prompts = tuple(prompts)
        sources = {unit.source for unit in units}
        model = load_base(base.path, "quantize" in sources, "as stored" in sources)
        self._model: Any = in_float32(model).eval()
        self.modules = tuple(self._units)
        self._held: dict[str, Encoding] = {}
        head: nn.Linear = self._model.get_output_embeddings()
        adapted = [name for name in self.modules if self._model.get_submodule(name) is head]
        if adapted:
            raise RequestError(
                f"{adapted[0]}: the adapter changes the output layer, which a choice by texts "
                "measures with; name a format, or leave the texts out"
            )
        self._metric: Tensor = _square_root_of_gram(head.weight)
        of_base = self._output()
        self.store(dict.fromkeys(self.modules, EXACT))
        self._restored = self._output()
        self.change = float((of_base - self._restored).double().norm())
        self._inputs = TensorSpool(scratch)
        self._source = self._keep_inputs()

    def second_moment(self, module: str) -> Tensor:
        """C = mean(x xᵀ) of what a module is fed in the restored model, float32 ``[in, in]``.

        An error E in its weight moves its output by E x, whose mean square over the texts is
        tr(E C Eᵀ).
        """
        total, count = torch.zeros(()), 0
        # in a fixed order, because float sums depend on it
        for file in sorted(self._inputs.directory.glob(f"{self._source[module]}-*.safetensors")):
            x = self._inputs.load(file.stem)
            total = total.addmm_(x.T, x) if count else x.T @ x
            count += x.shape[0]
        return total / count

    def store(self, choice: Mapping[str, Encoding]) -> None:
        """Give modules the weights that they would be stored with."""
        for module, encoding in choice.items():
            if self._held.get(module) == encoding:
                continue
            seen = read_weight(self._units[module], self._base)
            moment = partial(self.second_moment, module)
            where = place_of(f"{module}.weight", self._base)
            fold = Fold(module, where, seen, self._deltas[module], moment)
            self._model.get_submodule(module).weight.data = encoding.seen(fold)
            self._held[module] = encoding

    def residual(self) -> float:
        """Output residual of the model as it stands."""
        miss = float((self._output() - self._restored).double().norm())
        return relative(miss, self.change)

    def miss_of(self, stored: Mapping[str, Encoding]) -> Tensor:
        """What storing these alone does to h M, ``[tokens, hidden]``; then all are exact."""
        self.store({**dict.fromkeys(self.modules, EXACT), **stored})
        miss = self._output() - self._restored
        self.store(dict.fromkeys(stored, EXACT))
        return miss

    def _output(self) -> Tensor:
        """The model's h M, float32 ``[tokens, hidden]``."""
        return head_inputs(self._model, self._prompts) @ self._metric

    def _keep_inputs(self) -> dict[str, int]:
        """Keep what the modules are fed, every position of every text, 4 bytes a number.

        The result says which tensor each reads: modules that read the same one (q, k and v) share
        its files.
        """
        layers = {name: self._model.get_submodule(name) for name in self.modules}
        source: dict[str, int] = {}
        for number, batch in enumerate(batches(self._prompts)):
            inputs = inputs_of(self._model, layers, batch)
            distinct = {id(tensor): tensor for tensor in inputs.values()}
            places = {key: place for place, key in enumerate(distinct)}
            source = {name: places[id(tensor)] for name, tensor in inputs.items()}
            for key, tensor in distinct.items():
                x = torch.cat([tensor[i, : len(p.token_ids)] for i, p in enumerate(batch)])
                self._inputs.keep(f"{places[key]}-{number}", x.float())
        return source


def relative(miss: float, change: float) -> float:
    """Miss / change; where nothing was to change, 0 if nothing did, else infinite."""
    if change > 0:
        return miss / change
    return 0.0 if miss == 0 else float("inf")


def _square_root_of_gram(head: Tensor) -> Tensor:
    """(HᵀH)^½, symmetric, float32 ``[hidden, hidden]``."""
    gram = torch.zeros((head.shape[1], head.shape[1]), dtype=torch.float64)
    for rows in torch.split(head.detach(), _ROWS_AT_ONCE):
        gram += rows.double().T @ rows.double()
    values, vectors = torch.linalg.eigh(gram)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root.float()


def gram_matrix(misses: Iterable[Tensor]) -> Tensor:
    """⟨missᵢ, missⱼ⟩ of every pair of modules, float64 ``[n, n]``.

    So that memory does not grow with the texts, a long miss is kept as a count sketch (Charikar et
    al., "Finding frequent items in data streams", 2002), right to about 0.15 % of the norms.
    """
    sketches = torch.stack([_count_sketch(miss.reshape(-1)) for miss in misses])
    gram = torch.zeros((len(sketches), len(sketches)), dtype=torch.float64)
    for columns in torch.split(sketches, _ROWS_AT_ONCE, dim=1):
        gram += columns.double() @ columns.double().T
    return gram


def _count_sketch(flat: Tensor) -> Tensor:
    """float32, at most ``_SKETCH`` long: every entry added, with a fixed sign, to a fixed place."""
    if flat.numel() <= _SKETCH:
        return flat
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(_SKETCH, (flat.numel(),), generator=generator)
    sign = torch.randint(2, (flat.numel(),), generator=generator) * 2 - 1
    return flat.new_zeros(_SKETCH).index_add_(0, place, flat * sign)
