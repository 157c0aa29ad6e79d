"""TinyLoRA and LoRA adapters: read them, rebuild their deltas, put them on a model.

==============  ================================================================================
folder          what it holds
==============  ================================================================================
``adapters``    adapters and their deltas: ``dialects`` (what is called), ``adapter`` (what a
                dialect is), ``upstream`` (tiny_lora_v.pt), ``peft`` (PEFT's TinyLoRA), ``lora``
``svd``         singular factors of frozen weights, and the directory that keeps them
``weights``     4-bit weights as bitsandbytes stores them
``models``      checkpoints of others: config.json, chat templates, batches, divergence of tokens
``files``       JSON and YAML of others, whole-file writes, digests
==============  ================================================================================

``restoration`` is the restored model, a base with an adapter at run time, ``philox`` the random
stream of CUDA; ``workers`` runs modules on several threads, ``errors`` has every error. From files
to numbers::

    tiny_lora_v.pt ─ upstream.artifact ─┐
    model ─ upstream.targets ───────────┼─ projection (philox) ─┐
    weight ─ weights.quantized_weight ──┴─ svd (factor_store) ──┴─ upstream.deltas ─┐
    PEFT's directory ─ peft.adapter, lora.adapter ─ peft.deltas, lora.deltas ───────┴─ restoration

The names below are imported when they are first used: all but the errors need torch, which takes
seconds to import, and the judge and the importers of suites do without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tinylora.errors import TinyLoRAError

if TYPE_CHECKING:
    from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams
    from tinylora.adapters.adapter import AdapterSizes, ModuleDelta, ModuleDeltas
    from tinylora.adapters.dialects import adapted_layers, deltas_of, load_adapter
    from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
    from tinylora.adapters.options import DeltaOptions, ResolvedOptions
    from tinylora.adapters.peft.adapter import PeftAdapter, load_peft_adapter
    from tinylora.adapters.peft.deltas import PeftDeltas, PeftTinyLoRALinear
    from tinylora.adapters.upstream.artifact import Artifact, load_artifact, save_artifact
    from tinylora.adapters.upstream.deltas import AdapterDeltas, TinyLoRALinear
    from tinylora.adapters.upstream.projection import draw_projections
    from tinylora.adapters.upstream.targets import target_modules, target_names
    from tinylora.philox import philox_normal
    from tinylora.restoration import Restoration, apply_tiny_lora, restore
    from tinylora.svd.factor_store import FactorStore
    from tinylora.svd.factors import Factors, exact_factors, fast_factors
    from tinylora.weights.quantized_weight import QuantizedWeight

__all__ = [
    "AdaptedLinear",
    "AdapterDeltas",
    "AdapterSizes",
    "Artifact",
    "DeltaOptions",
    "FactorStore",
    "Factors",
    "LowRankDelta",
    "ModuleDelta",
    "ModuleDeltas",
    "PeftAdapter",
    "PeftDeltas",
    "PeftTinyLoRALinear",
    "QuantizedWeight",
    "ResolvedOptions",
    "Restoration",
    "TinyLoRAError",
    "TinyLoRAGlobalParams",
    "TinyLoRALinear",
    "TinyLoRAParts",
    "adapted_layers",
    "apply_tiny_lora",
    "deltas_of",
    "draw_projections",
    "exact_factors",
    "fast_factors",
    "load_adapter",
    "load_artifact",
    "load_peft_adapter",
    "philox_normal",
    "restore",
    "save_artifact",
    "target_modules",
    "target_names",
]

_HOMES = {
    "adapters.adapted_linear": ("AdaptedLinear", "TinyLoRAGlobalParams"),
    "adapters.adapter": ("AdapterSizes", "ModuleDelta", "ModuleDeltas"),
    "adapters.dialects": ("adapted_layers", "deltas_of", "load_adapter"),
    "adapters.low_rank": ("LowRankDelta", "TinyLoRAParts"),
    "adapters.options": ("DeltaOptions", "ResolvedOptions"),
    "adapters.peft.adapter": ("PeftAdapter", "load_peft_adapter"),
    "adapters.peft.deltas": ("PeftDeltas", "PeftTinyLoRALinear"),
    "adapters.upstream.artifact": ("Artifact", "load_artifact", "save_artifact"),
    "adapters.upstream.deltas": ("AdapterDeltas", "TinyLoRALinear"),
    "adapters.upstream.projection": ("draw_projections",),
    "adapters.upstream.targets": ("target_modules", "target_names"),
    "philox": ("philox_normal",),
    "restoration": ("Restoration", "apply_tiny_lora", "restore"),
    "svd.factor_store": ("FactorStore",),
    "svd.factors": ("Factors", "exact_factors", "fast_factors"),
    "weights.quantized_weight": ("QuantizedWeight",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # else every misspelt name would pass the type check

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'tinylora' has no attribute {name!r}")
        return getattr(import_module(f"tinylora.{_HOME_OF[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOME_OF})
