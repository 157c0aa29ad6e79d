"""Which modules carry the adapter, and in which order.

The order is part of the format: the random stream advances once per module, so it is the order in
which upstream's recursion over ``named_children()`` meets the modules (for Qwen2: layer by layer,
q k v o gate up down).

Two kinds of model are refused although some of their modules have such names: those that keep
several projections in one weight (``qkv_proj`` ends in ``v_proj``), and those that keep the
projections of all experts in one tensor. The singular vectors of such a weight are others than
those of the projections that an artifact was trained on, and nothing would show it.
"""

from collections.abc import Iterator

from torch import nn

from tinylora.adapters.upstream.artifact import Artifact
from tinylora.errors import TargetMismatchError

TARGET_SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_FUSED_SUFFIXES = ("qkv_proj", "qk_proj", "kv_proj", "gate_up_proj", "up_gate_proj")


def target_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Linear modules (``nn.Linear``, bitsandbytes ``Linear4bit`` included) that are adapted.

    Args:
        model: Any model, on any device, ``meta`` included.

    Returns:
        ``(qualified name, module)`` in the order of the random stream.

    Raises:
        TargetMismatchError: Several projections share one weight.
    """
    found = list(_walk(model, ""))
    kind = type(model).__name__
    for name, _ in found:
        if name.endswith(_FUSED_SUFFIXES):
            raise TargetMismatchError(
                f"{kind}: {name} holds several projections in one weight, and a TinyLoRA artifact "
                "was trained on separate ones (q_proj, k_proj, ...): their singular vectors are "
                "others; give the base that it was trained on, with separate projections"
            )
    for name, parameter in model.named_parameters():
        if parameter.dim() == 3 and name.removesuffix(".weight").endswith(TARGET_SUFFIXES):
            raise TargetMismatchError(
                f"{kind}: {name} {list(parameter.shape)} holds the projections of all experts in "
                "one tensor; mixtures of experts are not supported, a TinyLoRA artifact belongs to "
                "a base whose projections are linear layers"
            )
    return found


def target_names(model: nn.Module) -> list[str]:
    """Qualified names of :func:`target_modules`.

    Raises:
        TargetMismatchError: See there.
    """
    return [name for name, _ in target_modules(model)]


def _walk(parent: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for child_name, child in parent.named_children():
        name = prefix + child_name
        # Linear4bit derives from nn.Linear, so this is upstream's test of both types
        if isinstance(child, nn.Linear) and child_name.endswith(TARGET_SUFFIXES):
            yield name, child
        else:
            yield from _walk(child, name + ".")


def check_target_count(artifact: Artifact, names: list[str], where: str) -> None:
    """Refuse a base whose number of target modules is not the artifact's.

    Args:
        artifact: The artifact.
        names: Target modules found.
        where: The model or directory, for the message.

    Raises:
        TargetMismatchError: The counts differ, or there is no target at all.
    """
    if not names:
        raise TargetMismatchError(
            f"{where}: has no target module, that is no linear layer (nn.Linear, Linear4bit) named "
            f"{', '.join(TARGET_SUFFIXES)}; GPT-2's Conv1D and layers of other names are none. "
            f"Give {artifact.model_id}, the base that {artifact.path} was trained on"
        )
    if len(names) != artifact.total_replaced_layers:
        raise TargetMismatchError(
            f"{where}: has {len(names)} target modules (linear layers named "
            f"{', '.join(TARGET_SUFFIXES)}), but {artifact.path} was trained on "
            f"{artifact.total_replaced_layers} of {artifact.model_id}; give the base that it was "
            "trained on"
        )
