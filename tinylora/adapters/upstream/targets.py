"""Which modules carry the adapter, and in which order.

The order is part of the format, as the random stream advances once per module: it is that in which
upstream's recursion over ``named_children()`` meets the modules (for Qwen2: layer by layer,
q k v o gate up down). Models that keep several projections in one weight (``qkv_proj`` ends in
``v_proj``), or those of all experts in one tensor, are refused: such a weight has other singular
vectors than the projections that an artifact was trained on, and nothing would show it.
"""

from torch import nn

from tinylora.errors import TargetMismatchError

TARGET_SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_FUSED_SUFFIXES = ("qkv_proj", "qk_proj", "kv_proj", "gate_up_proj", "up_gate_proj")


def target_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """``(qualified name, module)`` of the linear modules that are adapted, in the stream's order.

    ``nn.Linear``, bitsandbytes' ``Linear4bit`` included, on any device. A TargetMismatchError where
    several projections share one weight.
    """
    # Linear4bit derives from nn.Linear, so this is upstream's test of both types
    found: list[tuple[str, nn.Module]] = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Linear) and name.endswith(TARGET_SUFFIXES)
    ]
    kind = type(model).__name__
    for name, _ in found:
        if name.endswith(_FUSED_SUFFIXES):
            raise TargetMismatchError(
                f"{kind}: {name} holds several projections in one weight, with other singular "
                "vectors than those that an artifact was trained on; give the base that it was "
                "trained on, with separate projections (q_proj, k_proj, ...)"
            )
    for name, parameter in model.named_parameters():
        if parameter.dim() == 3 and name.removesuffix(".weight").endswith(TARGET_SUFFIXES):
            raise TargetMismatchError(
                f"{kind}: {name} {list(parameter.shape)} holds the projections of all experts in "
                "one tensor; mixtures of experts are not supported, only linear layers are"
            )
    return found


def target_names(model: nn.Module) -> list[str]:
    """Qualified names of :func:`target_modules`; errors as there."""
    return [name for name, _ in target_modules(model)]
