"""The restored model, which exports are compared with."""

from pathlib import Path
from typing import Any

from torch import Tensor

from exporter.base.checkpoint import open_checkpoint
from exporter.compare.float32_model import load_base
from exporter.formats.encoding import TRAINER_DTYPE
from exporter.plan.base_weights import trained_on
from tinylora import DeltaOptions, FactorStore, Restoration, load_adapter, restore


def restored_model(
    base: Path,
    artifact: Path,
    options: DeltaOptions,
    *,
    in_4_bits: bool = True,
    store: FactorStore | None = None,
) -> tuple[Any, Restoration]:
    """The base as training had it, with the adapter.

    An adapter of 16-bit weights is put on the base in 4 bits where the export stands on that: what
    4 bits do to the base itself is no part of the comparison then. Its delta is the trained one.
    """
    adapter = load_adapter(artifact)
    trained = trained_on(adapter, options)
    in_4_bits = in_4_bits or trained == "4bit"  # quantized from bfloat16, as training did
    model = load_base(
        base,
        "4bit" if in_4_bits else "16bit",
        as_stored=not (adapter.made_from_weights or in_4_bits),
    )
    weight_of = None
    if in_4_bits and trained == "16bit" and adapter.made_from_weights:
        opened = open_checkpoint(base)

        def weight_of(module: str) -> Tensor:
            return opened.read(f"{module}.weight").to(TRAINER_DTYPE)

    return model, restore(model, adapter, options, store, weight_of=weight_of)
