"""PEFT's TinyLoRA: a directory with v, A, B, and P or a seed."""

from collections.abc import Sequence
from pathlib import Path

from tinylora.adapters.inspection import Inspection
from tinylora.adapters.options import DeltaOptions, TrainedOn, refuse_upstream_options
from tinylora.adapters.peft.adapter import PeftAdapter, load_peft_adapter
from tinylora.adapters.peft.config import METHOD
from tinylora.adapters.peft.deltas import PeftDeltas
from tinylora.adapters.peft.inspect import inspect
from tinylora.adapters.peft_dialect import PeftDialect
from tinylora.svd.factor_store import FactorStore


class PeftTinyLoRADialect(PeftDialect):
    """See :class:`tinylora.adapters.adapter.Dialect`."""

    kind, method = PeftAdapter, METHOD

    def load(self, path: Path) -> PeftAdapter:
        """See :func:`tinylora.adapters.peft.adapter.load_peft_adapter`."""
        return load_peft_adapter(path)

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
