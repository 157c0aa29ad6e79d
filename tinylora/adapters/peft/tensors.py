"""The tensors of a PEFT TinyLoRA adapter file: their names, shapes and numbering.

For each target module X, and each group g of modules that share a vector, the file has

==================================  ==============  ==========================================
key                                 shape           what
==================================  ==============  ==========================================
``base_model.model.X.tinylora_A``   ``[r, in]``     √S · Vh
``base_model.model.X.tinylora_B``   ``[out, r]``    U · √S
``base_model.model.X.tinylora_P``   ``[u, r, r]``   projections, with ``save_projection`` alone
``base_model.tinylora_v.g``         ``[u]``         the trained vector
==================================  ==============  ==========================================
"""

import re
from collections.abc import Mapping
from pathlib import Path

from tinylora.adapters.peft.config import PeftConfig
from tinylora.adapters.peft_directory import CONFIG_FILE, PREFIX
from tinylora.errors import ArtifactError

LEAVES = ("tinylora_A", "tinylora_B", "tinylora_P")

_VECTOR = re.compile(r"base_model\.tinylora_v\.(0|[1-9]\d{0,6})")


def group_count(modules: int, weight_tying: float) -> int:
    """How many vectors PEFT makes for so many modules."""
    return max(1, round(modules * (1.0 - weight_tying)))


def group_of(index: int, modules: int, weight_tying: float) -> int:
    """Which vector PEFT gives to the module at ``index`` in the base's order."""
    groups = group_count(modules, weight_tying)
    return min(index // max(1, modules // groups), groups - 1)


def module_shapes(
    file: Path, config: PeftConfig, headers: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, int, int]]:
    """Module -> ``(out, in, r)`` in the order of names, from all ``headers`` (key -> shape).

    Raises:
        ArtifactError: A tensor is missing, unknown, or of another shape than ``config`` says.
    """
    modules = set()
    for name in headers:
        module, _, leaf = name.removeprefix(PREFIX).rpartition(".")
        known = name.startswith(PREFIX) and leaf in LEAVES and module
        if not known and not _VECTOR.fullmatch(name):
            raise ArtifactError(
                f"{file}: tensor {name!r} is no part of a TinyLoRA adapter (A, B, P and v); was "
                "something else trained along with it? Merge it with PEFT"
            )
        if known:
            modules.add(module)
    if not modules:
        raise ArtifactError(f"{file}: has no module (no tensor named *.tinylora_A)")
    return {module: _shape(file, config, headers, module) for module in sorted(modules)}


def _shape(
    file: Path, config: PeftConfig, headers: Mapping[str, tuple[int, ...]], module: str
) -> tuple[int, int, int]:
    a, b, p = (headers.get(tensor_key(module, leaf)) for leaf in LEAVES)
    if a is None or b is None:
        absent = tensor_key(module, LEAVES[0] if a is None else LEAVES[1])
        raise ArtifactError(f"{file}: tensor {absent!r} is missing; copy the adapter again")
    if (p is None) == config.save_projection:
        state, remedy = ("missing", "false") if p is None else ("there", "true")
        raise ArtifactError(
            f"{file}: tensor {tensor_key(module, 'tinylora_P')!r} is {state}, but {CONFIG_FILE} "
            f"says save_projection {str(config.save_projection).lower()}; copy both files again "
            f"(if only the configuration is wrong, set it to {remedy})"
        )
    into, out = a[-1] if len(a) == 2 else 0, b[0] if len(b) == 2 else 0
    r = min(config.r, out, into)
    wanted = {LEAVES[0]: (r, into), LEAVES[1]: (out, r), LEAVES[2]: (config.u, r, r)}
    for (leaf, expected), found in zip(wanted.items(), (a, b, p), strict=True):
        if r == 0 or found not in (expected, None):
            raise ArtifactError(
                f"{file}: tensor {tensor_key(module, leaf)!r} has shape {list(found or ())}, "
                f"expected {_words(leaf)} with r = {config.r} and u = {config.u} of {CONFIG_FILE}"
            )
    return out, into, r


def vector_keys(
    file: Path, config: PeftConfig, headers: Mapping[str, tuple[int, ...]], groups: int
) -> list[str]:
    """Keys of the trained vectors, in the order of their groups.

    Raises:
        ArtifactError: One is missing, of another length, or too many.
    """
    names = [f"base_model.tinylora_v.{group}" for group in range(groups)]
    rule = f"weight_tying {config.weight_tying} makes {groups} groups"
    for name in names:
        if name not in headers:
            raise ArtifactError(f"{file}: tensor {name!r} is missing; {rule} of the modules")
        if headers[name] != (config.u,):
            raise ArtifactError(
                f"{file}: tensor {name!r} has shape {list(headers[name])}, expected [{config.u}], "
                f"u of {CONFIG_FILE}"
            )
    for name in sorted(headers):
        if _VECTOR.fullmatch(name) and name not in names:
            raise ArtifactError(f"{file}: tensor {name!r} belongs to no module; {rule}")
    return names


def tensor_key(module: str, leaf: str) -> str:
    """Key of A, B or P of a module."""
    return f"{PREFIX}{module}.{leaf}"


def _words(leaf: str) -> str:
    return {LEAVES[0]: "[r, in]", LEAVES[1]: "[out, r]", LEAVES[2]: "[u, r, r]"}[leaf]
