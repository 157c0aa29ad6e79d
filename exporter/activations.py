"""What target modules are fed on calibration texts: the metric in which a rounding error counts.

An error E in a weight moves the module's output by E x. Over the texts its mean square is
tr(E C Eᵀ) with C = mean(x xᵀ). The inputs x are kept on disk, 4 bytes a number; modules that read
the same tensor (q, k and v; gate and up) share one file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from exporter.prompts import TokenPrompt


class Activations:
    """Inputs of some modules, recorded once.

    Args:
        directory: Where they are kept; the caller removes it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._source: dict[str, int] = {}

    @torch.no_grad()
    def record(self, model: Any, modules: Sequence[str], prompts: Sequence[TokenPrompt]) -> None:
        """Run a model and keep what its modules are fed, every position of every text.

        Args:
            model: In eval mode.
            modules: Names of its linear modules.
            prompts: The texts.
        """
        recorder = _Recorder()
        handles = [
            model.get_submodule(name).register_forward_pre_hook(recorder.hook(name))
            for name in modules
        ]
        try:
            for number, prompt in enumerate(prompts):
                recorder.start_text()
                model(torch.tensor([prompt.token_ids]), use_cache=False)
                for source, tensor in recorder.inputs.items():
                    save_file({"x": tensor}, self._directory / f"{source}-{number}.safetensors")
        finally:
            for handle in handles:
                handle.remove()
        self._source = recorder.source

    def second_moment(self, module: str) -> Tensor:
        """C = mean(x xᵀ), float32 ``[in, in]``."""
        total: Tensor | None = None
        count = 0
        for file in sorted(self._directory.glob(f"{self._source[module]}-*.safetensors")):
            x = load_file(file)["x"]
            total = x.T @ x if total is None else total.addmm_(x.T, x)
            count += x.shape[0]
        assert total is not None, "recorded before use"
        return total / count


class _Recorder:
    """Numbers the distinct inputs of one forward pass."""

    def __init__(self) -> None:
        self.source: dict[str, int] = {}
        self.inputs: dict[int, Tensor] = {}
        self._last: Tensor | None = None

    def start_text(self) -> None:
        self.inputs, self._last = {}, None

    def hook(self, name: str) -> Any:
        def remember(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            (x,) = arguments
            if x is not self._last:
                self._last = x
                self.inputs[len(self.inputs)] = x[0].float().contiguous()
            self.source[name] = len(self.inputs) - 1

        return remember
