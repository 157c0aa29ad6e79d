"""Which modules carry the adapter, and in which order.

The order is part of the format: the random stream advances once per module, so it is the order in
which upstream's recursion over ``named_children()`` meets the modules (for Qwen2: layer by layer,
q k v o gate up down).
"""

from collections.abc import Iterator

from torch import nn

from tinylora.artifact import Artifact
from tinylora.errors import TargetMismatchError

TARGET_SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def target_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Linear modules (``nn.Linear``, bitsandbytes ``Linear4bit`` included) that are adapted.

    Args:
        model: Any model, on any device, ``meta`` included.

    Returns:
        ``(qualified name, module)`` in the order of the random stream.
    """
    return list(_walk(model, ""))


def target_names(model: nn.Module) -> list[str]:
    """Qualified names of :func:`target_modules`."""
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
        TargetMismatchError: The counts differ: another base, or one with fused projections.
    """
    if len(names) != artifact.total_replaced_layers:
        raise TargetMismatchError(
            f"{where}: has {len(names)} target modules (linear layers named "
            f"{', '.join(TARGET_SUFFIXES)}), but {artifact.path} was trained on "
            f"{artifact.total_replaced_layers} of {artifact.model_id}; give the base that it was "
            "trained on"
        )
