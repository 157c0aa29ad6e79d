"""The restored model: a base with the adapter at run time.

The base modules are wrapped (``adapters.adapted_linear``) and left untouched, so taking the
wrappers off gives back the very same objects.
"""

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams
from tinylora.adapters.adapter import Adapter, ModuleDelta, ModuleDeltas
from tinylora.adapters.dialects import adapted_layers, deltas_of
from tinylora.adapters.options import DeltaOptions, Formula, Stream
from tinylora.adapters.upstream.artifact import Artifact
from tinylora.adapters.upstream.deltas import AdapterDeltas
from tinylora.adapters.upstream.formula import HOW_TO_TELL
from tinylora.adapters.upstream.targets import target_modules
from tinylora.errors import OptionsError, RestoreError
from tinylora.models.float32_view import holds_codes
from tinylora.svd.factor_store import FactorStore
from tinylora.weights.quantized_weight import QuantizedWeight
from tinylora.workers import in_order, single_threaded, workers_for

_log = logging.getLogger(__name__)

_CONTAINER = "tiny_lora_params"
_OTHER_WEIGHTS = (
    "it was trained on a {} base, and weights of this model are not: their singular vectors are "
    "others, and the delta is off by about half of its size; load the base as in training (4bit: "
    "NF4, double quantization)"
)


class Restoration:
    """An adapter on a model; take it off with :meth:`remove`, or use it as a context manager.

    Attributes:
        global_params: Holder of the trained numbers; train them, or change them in place.
        wrapped: Names of the wrapped modules, in the adapter's order.
    """

    def __init__(
        self,
        model: nn.Module,
        global_params: TinyLoRAGlobalParams,
        wrapped: dict[str, AdaptedLinear],
    ) -> None:
        self._model = model
        self._wrappers = wrapped
        self.global_params = global_params
        self.wrapped = tuple(wrapped)

    def remove(self) -> None:
        """Give the base its own modules back; a second call does nothing.

        A RestoreError where somebody has replaced a wrapper since; nothing is changed then.
        """
        for name, wrapper in self._wrappers.items():
            if self._model.get_submodule(name) is not wrapper:
                raise RestoreError(
                    f"module {name} is no longer the wrapper that restore() put there; take off "
                    "what was put on top of it first"
                )
        for name, wrapper in self._wrappers.items():
            self._model.set_submodule(name, wrapper.base_layer)
        if self._wrappers and getattr(self._model, _CONTAINER, None) is self.global_params:
            delattr(self._model, _CONTAINER)
        self._wrappers = {}

    @torch.no_grad()
    def fold(self) -> None:
        """Add each delta to its dense base weight, and take the wrappers off.

        The model is the same function, up to the rounding of its weights' dtype. A RestoreError
        for layers that hold codes, or where :meth:`remove` has one.
        """
        wrappers = self._wrappers
        for name, wrapper in wrappers.items():
            if hasattr(wrapper.weight, "quant_state") or holds_codes(wrapper.base_layer):
                raise RestoreError(
                    f"module {name}: a delta cannot be added to codes (4 bit, 8 bit, fp8); fold it "
                    "into dense weights, or export the model with tinylora-export merge"
                )
        self.remove()
        for wrapper in wrappers.values():
            wrapper.weight.data = (wrapper.weight + wrapper.delta()).to(wrapper.weight.dtype)

    def __enter__(self) -> "Restoration":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def restore(
    model: nn.Module,
    artifact: Adapter,
    options: DeltaOptions | None = None,
    store: FactorStore | None = None,
    *,
    weight_of: Callable[[str], Tensor] | None = None,
) -> Restoration:
    """Put a trained adapter on the base that it was trained on; the handle can take it off again.

    A model in 4 bit must not have run a forward pass on the CPU yet: bitsandbytes repacks weights.

    ``options`` are of upstream's dialect. The exact SVD of a 3-billion-parameter base takes most of
    an hour on two slow cores, and nothing from a ``store``. ``weight_of`` gives the ``[out, in]``
    weight of a module that training had, where the model has others.

    Raises:
        TargetMismatchError: Other target modules, or several projections in one weight.
        OptionsError: Options of upstream's dialect for another adapter.
        ProjectionError: The random stream cannot be reproduced as asked.
        RestoreError: The model has an adapter already, or weights that cannot be read.
        QuantizedWeightError: A 4-bit weight is repacked or not quantized yet.
        FactorizationError: An SVD failed.
        FactorStoreError: The store cannot be used.
    """
    _refuse_adapted(model)
    modules = adapted_layers(artifact, model, type(model).__name__)
    deltas = deltas_of(artifact, [name for name, _ in modules], options, store)
    doubts = list(deltas.doubts)
    if deltas.resolved is not None and weight_of is None:
        # a 4-bit checkpoint may leave some layers in 16 bits
        in_4_bits = any(hasattr(m.weight, "quant_state") for _, m in modules)
        if in_4_bits != (deltas.resolved.trained_on == "4bit"):
            doubts.append(_OTHER_WEIGHTS.format(deltas.resolved.trained_on))
    for doubt in doubts:
        _log.warning("%s: %s", artifact.path, doubt)
    device = modules[0][1].weight.device
    vectors = deltas.vectors if deltas.vectors.shape[0] > 1 else deltas.vectors[0]
    holder = TinyLoRAGlobalParams(vectors.shape, device=device, dtype=vectors.dtype)  # type: ignore[arg-type]
    with torch.no_grad():
        holder.global_v.copy_(vectors)
    return _wrap(model, modules, deltas, holder, weight_of)


def apply_tiny_lora(
    model: nn.Module,
    global_params_ref: TinyLoRAGlobalParams,
    rank: int | None = None,
    *,
    seed: int | None = None,
    formula: Formula | None = None,
    rng: Stream = "cuda",
    store: FactorStore | None = None,
) -> int:
    """The trainer's function of this name, for its published restore snippet.

    As there, call ``torch.manual_seed(seed)`` before it. P is drawn from the emulated CUDA stream
    of that seed, on whatever machine this runs; torch's own random state is read, not advanced.
    Rank and ``formula`` may be left out together: that is the Luogu project's snippet, of rank 2
    and ``full``. Its successor's gives a rank and means ``diagonal``.

    Returns:
        Number of modules replaced.

    Raises:
        OptionsError: A rank without a formula.
        RestoreError: No target module, else errors as for :func:`restore`.
    """
    if rank is not None and formula is None:
        raise OptionsError(
            f"apply_tiny_lora(..., rank={rank}) needs formula=: two trainers have a function of "
            f"this name, and their deltas are different models; {HOW_TO_TELL}"
        )
    _refuse_adapted(model)
    modules = target_modules(model)
    if not modules:
        raise RestoreError(f"{type(model).__name__} has no target module to replace")
    artifact = Artifact(
        path=Path("<apply_tiny_lora>"),
        global_v=global_params_ref.global_v.detach().cpu(),
        u=global_params_ref.global_v.numel(),
        rank=2 if rank is None else rank,
        seed=torch.initial_seed() if seed is None else seed,
        model_id="",
        total_replaced_layers=len(modules),
        is_quantized=None,
        saved_device=rng,
        sha256="",
    )
    options = DeltaOptions(formula=formula or "full", rng=rng)
    deltas = AdapterDeltas(artifact, [name for name, _ in modules], options, store)
    return len(_wrap(model, modules, deltas, global_params_ref).wrapped)


def _wrap(
    model: nn.Module,
    modules: list[tuple[str, nn.Module]],
    deltas: ModuleDeltas,
    global_params: TinyLoRAGlobalParams,
    weight_of: Callable[[str], Tensor] | None = None,
) -> Restoration:
    """Rebuild the deltas, some SVDs at a time, each with the bits that an export has."""
    for name, module in modules:
        if module.weight.is_meta:
            raise RestoreError(
                f"{name}: its weight is on the meta device, not in memory; load the model without "
                "offloading"
            )

    @torch.no_grad()
    def rebuild(target: tuple[str, nn.Module]) -> ModuleDelta:
        name, module = target
        return deltas.module(
            name, lambda: weight_of(name) if weight_of else readable_weight(name, module)
        )

    sizes: list[int] = [module.in_features * module.out_features for _, module in modules]  # type: ignore[operator, misc]
    wrappers: dict[str, AdaptedLinear] = {}
    with (
        single_threaded() as threads,
        closing(in_order(rebuild, modules, workers_for(threads, max(sizes)))) as rebuilt,
    ):
        for (name, module), delta in zip(modules, rebuilt, strict=True):
            wrappers[name] = delta.wrap(module, global_params)
    # only now touch the model: a failure above leaves it as it was
    for name, wrapper in wrappers.items():
        model.set_submodule(name, wrapper)
    setattr(model, _CONTAINER, global_params)
    _log.info("restored %d modules", len(wrappers))
    return Restoration(model, global_params, wrappers)


def readable_weight(name: str, module: nn.Module) -> QuantizedWeight | Tensor:
    """The frozen weight of ``nn.Linear`` or ``Linear4bit``.

    A RestoreError where it is in 8 bit.
    """
    weight: Any = module.weight
    if hasattr(weight, "quant_state"):
        return QuantizedWeight.from_module(module, name)
    if not weight.is_floating_point():
        raise RestoreError(
            f"{name}: weight of dtype {weight.dtype}, expected a floating-point or bitsandbytes "
            "4-bit weight (no 8 bit)"
        )
    return weight.detach()  # type: ignore[no-any-return]


def _refuse_adapted(model: nn.Module) -> None:
    if any(isinstance(module, AdaptedLinear) for module in model.modules()):
        raise RestoreError(f"{type(model).__name__} carries an adapter already; remove it first")
