"""The restored model: a base with the adapter at run time.

ΔW is never formed under fp32 numerics: y = base(x) + ((x Vhᵀ) Rᵀ) (U diag(S))ᵀ, work of rank r,
differentiable in the shared vector. The base modules are wrapped and left untouched, so taking the
wrappers off gives back the very same objects.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from tinylora.artifact import Artifact, Formula, Stream
from tinylora.delta import (
    AdapterDeltas,
    DeltaOptions,
    Numerics,
    bf16_factors,
    core_matrix,
    left_factor,
)
from tinylora.errors import RestoreError
from tinylora.factor_store import FactorStore
from tinylora.factors import Factors
from tinylora.quantized_weight import QuantizedWeight
from tinylora.targets import check_target_count, target_modules

_log = logging.getLogger(__name__)

_CONTAINER = "tiny_lora_params"


class TinyLoRAGlobalParams(nn.Module):
    """Holder of the shared vector, as in the trainer.

    Args:
        u_dim: Length u.
        device: Device of the vector.
        dtype: Its dtype; the trainer's is bf16.

    Attributes:
        global_v: Parameter ``[u]``, zeros at first, which leaves the base as it is.
    """

    def __init__(
        self,
        u_dim: int = 16,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        self.global_v = nn.Parameter(torch.zeros(u_dim, device=device, dtype=dtype))

    def forward(self) -> Tensor:
        """The vector."""
        return self.global_v


class TinyLoRALinear(nn.Module):
    """A linear module and its TinyLoRA update.

    Args:
        base_layer: ``nn.Linear`` or bitsandbytes ``Linear4bit``; not changed.
        global_params: Holder of the shared vector, shared by all wrappers.
        factors: Leading factors of the base's weight.
        projection: P of this module, ``[u, r, r]`` (full) or ``[u, r]`` (diagonal).
        formula: Which formula.
        numerics: ``fp32``, or ``trainer`` to form ΔW in bf16 as the trainer did.
    """

    US: Tensor
    Vh: Tensor
    P: Tensor
    U: Tensor
    S: Tensor

    def __init__(
        self,
        base_layer: nn.Module,
        global_params: TinyLoRAGlobalParams,
        factors: Factors,
        projection: Tensor,
        formula: Formula,
        numerics: Numerics = "fp32",
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.formula = formula
        self.numerics = numerics
        # a list, so that the shared holder is not registered once in every wrapper
        self._shared = [global_params]
        weight: Tensor = base_layer.weight  # type: ignore[assignment]
        U, S, Vh = (t.to(weight.device).float() for t in bf16_factors(factors))
        for name, tensor in {"U": U, "S": S, "Vh": Vh, "US": U * S}.items():
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("P", projection.to(weight.device).float(), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The base's weight, for code that asks a linear module for its dtype or device."""
        return self.base_layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.base_layer.bias  # type: ignore[return-value]

    @property
    def in_features(self) -> int:
        """Columns of W."""
        return self.Vh.shape[1]

    @property
    def out_features(self) -> int:
        """Rows of W."""
        return self.U.shape[0]

    def delta(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``, differentiable in the shared vector."""
        R = core_matrix(self._vector(), self.P, self.formula)
        product = left_factor(self.U, self.S, R, self.numerics, self.formula) @ self.Vh
        return product.to(torch.bfloat16).float() if self.numerics == "trainer" else product

    def forward(self, x: Tensor) -> Tensor:
        """``base(x) + x ΔWᵀ``, in the dtype of ``base(x)``.

        Args:
            x: ``[..., in]``.
        """
        base: Tensor = self.base_layer(x)
        if self.numerics == "trainer":
            return base + (x.to(torch.bfloat16) @ self.delta().to(torch.bfloat16).T).to(base.dtype)
        R = core_matrix(self._vector(), self.P, self.formula)
        update = ((x.float() @ self.Vh.T) @ R.T) @ self.US.T
        return (base + update).to(base.dtype)

    def _vector(self) -> Tensor:
        return self._shared[0].global_v.to(self.Vh.device).float()


class Restoration:
    """An adapter on a model; take it off with :meth:`remove`, or use it as a context manager.

    Attributes:
        global_params: Holder of the vector; train it, or change it in place.
        wrapped: Names of the wrapped modules, in the order of the random stream.
    """

    def __init__(
        self, model: nn.Module, global_params: TinyLoRAGlobalParams, wrapped: dict[str, nn.Module]
    ) -> None:
        self._model = model
        self._wrappers = wrapped
        self.global_params = global_params
        self.wrapped = tuple(wrapped)

    def remove(self) -> None:
        """Give the base its own modules back; a second call does nothing.

        Raises:
            RestoreError: Somebody has replaced a wrapper since; nothing is changed then.
        """
        for name, wrapper in self._wrappers.items():
            if self._model.get_submodule(name) is not wrapper:
                raise RestoreError(
                    f"module {name} is no longer the wrapper that restore() put there; take off "
                    "what was put on top of it first"
                )
        for name, wrapper in self._wrappers.items():
            _set_module(self._model, name, wrapper.base_layer)  # type: ignore[arg-type]
        if self._wrappers and getattr(self._model, _CONTAINER, None) is self.global_params:
            delattr(self._model, _CONTAINER)
        self._wrappers = {}

    def __enter__(self) -> "Restoration":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def restore(
    model: nn.Module,
    artifact: Artifact,
    options: DeltaOptions | None = None,
    store: FactorStore | None = None,
    *,
    on_module: Callable[[str], None] | None = None,
) -> Restoration:
    """Put a trained adapter on the base that it was trained on.

    The model must not have run a forward pass on the CPU yet if it is in 4 bit: bitsandbytes
    repacks the weights then.

    Args:
        model: The base, plain or bitsandbytes 4-bit.
        artifact: The artifact.
        options: How to rebuild the deltas.
        store: Where factors are kept between runs; the exact SVD of a 3-billion-parameter base
            takes about 13 minutes on two cores, and nothing from a store.
        on_module: Called with each module's name after it is wrapped.

    Returns:
        A handle that can take the adapter off again.

    Raises:
        TargetMismatchError: The base has another number of target modules.
        RestoreError: The model has an adapter already, or weights that cannot be read.
        QuantizedWeightError: A 4-bit weight is repacked or not quantized yet.
        FactorizationError: An SVD failed.
    """
    _refuse_adapted(model)
    modules = target_modules(model)
    names = [name for name, _ in modules]
    check_target_count(artifact, names, type(model).__name__)
    deltas = AdapterDeltas(artifact, names, options, store)
    device = modules[0][1].weight.device
    vector = artifact.global_v
    global_params = TinyLoRAGlobalParams(artifact.u, device=device, dtype=vector.dtype)  # type: ignore[arg-type]
    with torch.no_grad():
        global_params.global_v.copy_(vector)
    return _wrap(model, modules, deltas, global_params, on_module)


def apply_tiny_lora(
    model: nn.Module,
    global_params_ref: TinyLoRAGlobalParams,
    rank: int = 2,
    *,
    seed: int | None = None,
    formula: Formula = "full",
    rng: Stream = "cuda",
    store: FactorStore | None = None,
) -> int:
    """The trainer's function of this name, for its published restore snippet.

    As there, call ``torch.manual_seed(seed)`` before it. P is drawn from the emulated CUDA stream
    of that seed, on whatever machine this runs; torch's own random state is read, not advanced.

    Args:
        model: The base, plain or 4-bit.
        global_params_ref: Holder of the shared vector; its length is u.
        rank: SVD rank r.
        seed: Seed of P; None: the one last given to ``torch.manual_seed``.
        formula: ``full`` (the Luogu project) or ``diagonal`` (its successor).
        rng: ``cpu`` if the training drew P on a CPU.
        store: Where factors are kept between runs.

    Returns:
        Number of modules replaced.

    Raises:
        RestoreError: The model has an adapter already, or no target module.
    """
    _refuse_adapted(model)
    modules = target_modules(model)
    if not modules:
        raise RestoreError(f"{type(model).__name__} has no target module to replace")
    artifact = Artifact(
        path=Path("<apply_tiny_lora>"),
        global_v=global_params_ref.global_v.detach().cpu(),
        u=global_params_ref.global_v.numel(),
        rank=rank,
        seed=torch.initial_seed() if seed is None else seed,
        model_id="",
        total_replaced_layers=len(modules),
        is_quantized=None,
        saved_device=rng,
        sha256="",
    )
    options = DeltaOptions(formula=formula, rng=rng)
    deltas = AdapterDeltas(artifact, [name for name, _ in modules], options, store)
    return len(_wrap(model, modules, deltas, global_params_ref, None).wrapped)


def _wrap(
    model: nn.Module,
    modules: list[tuple[str, nn.Module]],
    deltas: AdapterDeltas,
    global_params: TinyLoRAGlobalParams,
    on_module: Callable[[str], None] | None,
) -> Restoration:
    wrappers: dict[str, nn.Module] = {}
    for index, (name, module) in enumerate(modules):
        wrappers[name] = TinyLoRALinear(
            module,
            global_params,
            deltas.factors(name, readable_weight(name, module)),
            deltas.projections[index],
            deltas.resolved.formula,
            deltas.resolved.numerics,
        )
        if on_module is not None:
            on_module(name)
    # only now touch the model: a failure above leaves it as it was
    for name, wrapper in wrappers.items():
        _set_module(model, name, wrapper)
    setattr(model, _CONTAINER, global_params)
    _log.info("restored %d modules with %s", len(wrappers), deltas.resolved)
    return Restoration(model, global_params, wrappers)


def readable_weight(name: str, module: nn.Module) -> QuantizedWeight | Tensor:
    """The frozen weight of a linear module.

    Args:
        name: Its name, for messages.
        module: ``nn.Linear`` or ``Linear4bit``.

    Raises:
        RestoreError: The weight is on the ``meta`` device (offloaded) or in 8 bit.
        QuantizedWeightError: A 4-bit weight that cannot be read.
    """
    weight: Any = module.weight
    if hasattr(weight, "quant_state"):
        return QuantizedWeight.from_module(module, name)
    if weight.is_meta or not weight.is_floating_point():
        raise RestoreError(
            f"{name}: weight of dtype {weight.dtype} on device {weight.device}; expected a "
            "floating-point or bitsandbytes 4-bit weight in memory (no offloading, no 8 bit)"
        )
    return weight.detach()  # type: ignore[no-any-return]


def _refuse_adapted(model: nn.Module) -> None:
    if any(isinstance(module, TinyLoRALinear) for module in model.modules()):
        raise RestoreError(
            f"{type(model).__name__} carries a TinyLoRA adapter already; remove it first"
        )


def _set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
