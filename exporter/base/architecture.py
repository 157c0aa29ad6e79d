"""What the base's ``config.json`` says about its modules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from exporter.base.outline import outline_of
from tinylora import FactorStore, target_names


@dataclass(frozen=True)
class Architecture:
    """The modules and parameters that a checkpoint must have.

    Attributes:
        targets: Linear modules that the adapter changes, in the order of the random stream.
        linears: Every linear module that 4-bit loading may quantize -> ``(out, in)``.
        kept: Names of the linear modules that stay in 16 bits (``llm_int8_skip_modules``).
        parameters: Parameter and persistent buffer name -> shape, tied ones without their alias.
        tied: Names of parameters that are an alias of another.
        ignored: Patterns of other names that a checkpoint of this architecture may hold.
        same_leaf: Whether no module but a target ends in a target's last name.
    """

    targets: tuple[str, ...]
    linears: Mapping[str, tuple[int, int]]
    kept: tuple[str, ...]
    parameters: Mapping[str, tuple[int, ...]]
    tied: tuple[str, ...]
    ignored: tuple[str, ...]
    same_leaf: bool


def read_architecture(
    path: Path,
    config: Mapping[str, Any],
    find_targets: Callable[[nn.Module], Sequence[str]] = target_names,
    store: FactorStore | None = None,
) -> Architecture:
    """Read off the modules of a checkpoint's model.

    Args:
        path: Directory of the checkpoint.
        config: Its config.json.
        find_targets: Gives the names of the modules that the adapter changes, in its order.
        store: Keeps the outline of the model for the next time.

    Raises:
        CheckpointError: transformers has no such architecture, or it needs code from elsewhere.
    """
    outline = outline_of(path, config, store)
    model = outline.model()
    names = find_targets(model)
    every = {
        n: (m.out_features, m.in_features) for n, m in model.named_modules() if type(m) is nn.Linear
    }
    leaves = {n.rsplit(".", 1)[-1] for n in names}
    ending = [n for n, _ in model.named_modules() if n.rsplit(".", 1)[-1] in leaves]
    return Architecture(
        targets=tuple(names),
        linears={name: shape for name, shape in every.items() if name not in outline.kept},
        kept=tuple(sorted(every.keys() & set(outline.kept))),
        parameters=outline.state,
        tied=outline.tied,
        ignored=outline.ignored,
        same_leaf=set(ending) == set(names),
    )
