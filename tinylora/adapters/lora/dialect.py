"""PEFT's LoRA: a directory with A and B of each module."""

import math
from collections.abc import Iterator

import torch

from tinylora.adapters.inspection import Inspection, about_modules
from tinylora.adapters.lora.adapter import LoraAdapter, load_lora_adapter
from tinylora.adapters.lora.config import METHOD
from tinylora.adapters.lora.deltas import LoraDeltas
from tinylora.adapters.options import TrainedOn
from tinylora.adapters.peft_dialect import PeftDialect, about_base, about_weights


class LoraDialect(PeftDialect):
    """See :class:`tinylora.adapters.adapter.Dialect`."""

    kind, method, load, made = LoraAdapter, METHOD, staticmethod(load_lora_adapter), LoraDeltas

    def inspect(self, adapter: LoraAdapter, trained_on: TrainedOn) -> Inspection:
        """Ranks, scales and the sizes of the deltas."""
        norms = torch.tensor([_norm(adapter, name) for name in adapter.shapes])
        described = adapter.describe()
        facts = {
            "directory": adapter.path.name,
            "sha256": adapter.sha256,
            "dialect": "PEFT LoRA",
            "base_model_name_or_path": adapter.config.base,
            **{name: described[name] for name in ("modules", "ranks", "scales", "use_rslora")},
            "delta_norms": {
                "dtype": "float32",
                "norm": float(norms.norm()),
                "smallest": float(norms.min()),
                "largest": float(norms.max()),
                "zeros": int((norms == 0).sum()),
            },
        }
        remarks = tuple(_remarks(adapter, trained_on, norms.tolist()))
        return Inspection(
            adapter, facts, "delta_norms", "factors as stored in the adapter", remarks
        )


def _norm(adapter: LoraAdapter, module: str) -> float:
    """‖ΔW‖ of a module."""
    return math.sqrt(LoraDeltas(adapter, [module]).module(module).low_rank().squared_norm())


def _remarks(adapter: LoraAdapter, trained_on: TrainedOn, norms: list[float]) -> Iterator[str]:
    yield about_modules(adapter.shapes)
    if not any(norms):
        yield "every delta is zero: nothing was trained, the adapter changes nothing"
    elif zeros := norms.count(0.0):
        yield f"the delta of {zeros} of {len(norms)} modules is zero"
    yield from about_base(adapter)
    if_16bit = (
        "taken as trained on 16-bit weights, to which dense exports add it; if the base was in "
        "4 bits (QLoRA)"
    )
    yield about_weights(trained_on, if_16bit)
