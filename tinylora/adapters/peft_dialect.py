"""What the dialects of PEFT share: the files, and layers that the weight file names."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from torch import nn

from tinylora.adapters.peft_directory import adapter_files, method_of
from tinylora.errors import TargetMismatchError


class StoredAdapter(Protocol):
    """An adapter whose files name the modules: module -> ``(out, in, r)``."""

    @property
    def path(self) -> Path:
        """Its directory."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, int, int]]:
        """The modules."""

    @property
    def model_id(self) -> str:
        """Name of its base, or nothing."""


class PeftDialect:
    """Part of a :class:`tinylora.adapters.adapter.Dialect`.

    Attributes:
        method: PEFT's name of the method.
    """

    method: ClassVar[str]

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """Configuration and weights of a directory."""
        return adapter_files(path) if path.is_dir() else None

    def reads(self, path: Path) -> bool:
        """Whether the configuration says so."""
        return method_of(path) == self.method

    def layers(
        self, adapter: StoredAdapter, model: nn.Module, where: str
    ) -> list[tuple[str, nn.Module]]:
        """The layers that the file names, in the base's order.

        Raises:
            TargetMismatchError: A module is missing, of another shape, no linear layer, or shares
                its weight with another module.
        """
        found = {name: layer for name, layer in model.named_modules() if name in adapter.shapes}
        tied = _tied(model)
        path = adapter.path
        for name, (out, into, _) in adapter.shapes.items():
            layer = found.get(name)
            if layer is None:
                raise TargetMismatchError(
                    f"{where}: has no module {name}, which {path} changes; give the base that "
                    f"the adapter was trained on ({adapter.model_id or 'it names none'})"
                )
            # Linear4bit derives from nn.Linear; Embedding and Conv1D do not
            if not isinstance(layer, nn.Linear):
                raise TargetMismatchError(
                    f"{where}: {name} is a {type(layer).__name__}, and only linear layers can be "
                    f"changed here; {path} must be merged with PEFT"
                )
            if (layer.out_features, layer.in_features) != (out, into):
                raise TargetMismatchError(
                    f"{where}: {name} is {layer.out_features} x {layer.in_features}, but {path} "
                    f"has a delta of {out} x {into}; give the base that the adapter was trained on"
                )
            if f"{name}.weight" in tied:
                raise TargetMismatchError(
                    f"{where}: the weight of {name} is tied to another module's, which the delta "
                    f"would change too; {path} cannot be used on it"
                )
        return list(found.items())


def _tied(model: nn.Module) -> set[str]:
    """Names of the parameters that are one and the same tensor as another one."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    shared = {name for names in owners.values() if len(names) > 1 for name in names}
    # transformers' own list, for models on the meta device
    return shared | set(getattr(model, "all_tied_weights_keys", ()))
