
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporter.compare.float32_model import batches, inputs_of
from exporter.compare.kept_tensors import KeptTensors
from exporter.compare.prompts import TokenPrompt


class Activations:
    """What target modules are fed on calibration texts, kept on disk, 4 bytes a number.

    An error E in a weight moves the module's output by E x, whose mean square over the texts is
    tr(E C Eᵀ) with C = mean(x xᵀ). Modules that read the same tensor (q, k and v) share one file.
    """

    def __init__(self, directory: Path) -> None:
        self._kept = KeptTensors(directory)
        self._source: dict[str, int] = {}

    def record(self, model: Any, modules: Sequence[str], prompts: Sequence[TokenPrompt]) -> None:
        """Run a model and keep what its modules are fed, every position of every text.

        Raises:
            OutputWriteError: The directory has no room for them.
        """
        layers = {name: model.get_submodule(name) for name in modules}
        for number, batch in enumerate(batches(prompts)):
            inputs = inputs_of(model, layers, batch)
            distinct = {id(tensor): tensor for tensor in inputs.values()}
            places = {key: place for place, key in enumerate(distinct)}
            self._source = {name: places[id(tensor)] for name, tensor in inputs.items()}
            for key, tensor in distinct.items():
                x = torch.cat([tensor[i, : len(p.token_ids)] for i, p in enumerate(batch)])
                self._kept.keep(f"{places[key]}-{number}", x.float())

    def second_moment(self, module: str) -> Tensor:
        """Second moment C = mean(x xᵀ), float32 ``[in, in]``."""
        total: Tensor | None = None
        count = 0
        for x in self.inputs(module):
            total = x.T @ x if total is None else total.addmm_(x.T, x)
            count += x.shape[0]
        assert total is not None, "recorded before use"
        return total / count

    def inputs(self, module: str) -> Iterator[Tensor]:
        """Inputs of one batch after the other, float32 ``[positions, in]``."""
        files = self._kept.directory.glob(f"{self._source[module]}-*.safetensors")
        # in a fixed order, because float sums depend on it
        for file in sorted(files):
            yield self._kept.load(file.stem)
