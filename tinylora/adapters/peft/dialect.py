"""PEFT's TinyLoRA: a directory with v, A, B, and P or a seed."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tinylora.adapters.inspection import Inspection
from tinylora.adapters.options import DeltaOptions, TrainedOn, refuse_upstream_options
from tinylora.adapters.peft.adapter import PeftAdapter, load_peft_adapter
from tinylora.adapters.peft.config import METHOD
from tinylora.adapters.peft.deltas import PeftDeltas
from tinylora.adapters.peft.inspect import inspect
from tinylora.adapters.peft_directory import adapter_files, method_of, stored_layers
from tinylora.svd.factor_store import FactorStore


class PeftTinyLoRADialect:
    """See :class:`tinylora.adapters.adapter.Dialect`."""

    kind = PeftAdapter

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """Configuration and weights of a directory."""
        return adapter_files(path) if path.is_dir() else None

    def reads(self, path: Path) -> bool:
        """Whether the configuration says so."""
        return method_of(path) == METHOD

    def load(self, path: Path) -> PeftAdapter:
        """See :func:`tinylora.adapters.peft.adapter.load_peft_adapter`."""
        return load_peft_adapter(path)

    def layers(
        self, adapter: PeftAdapter, model: nn.Module, where: str
    ) -> list[tuple[str, nn.Module]]:
        """The layers that the file names."""
        return stored_layers(adapter.shapes, model, where, adapter.path, adapter.config.base)

    def deltas(
        self,
        adapter: PeftAdapter,
        names: Sequence[str],
        options: DeltaOptions | None,
        store: FactorStore | None,
    ) -> PeftDeltas:
        """Deltas from the stored parts."""
        refuse_upstream_options(options, adapter.path)
        return PeftDeltas(adapter, names)

    def inspect(self, adapter: PeftAdapter, trained_on: TrainedOn) -> Inspection:
        """See :func:`tinylora.adapters.peft.inspect.inspect`."""
        return inspect(adapter, trained_on)
