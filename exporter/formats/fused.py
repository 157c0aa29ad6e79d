"""Layers that vLLM and SGLang run as one, and so quantize all of them or none.

They know such a layer by a name of their own, also where ``llm_int8_skip_modules`` names its parts:
of a group that is kept in part, or without that name, they quantize the bf16 weights again.
"""

from collections.abc import Collection, Iterable

_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def fused_group(module: str, layers: Collection[str]) -> tuple[str, ...]:
    """A module and those of some layers that are one layer with it when served.

    >>> fused_group("mlp.up_proj", {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
    ('mlp.gate_proj', 'mlp.up_proj')
    """
    _, parts = _fused(module)
    return tuple(part for part in parts if part == module or part in layers)


def whole_groups(modules: Iterable[str], layers: Collection[str]) -> tuple[str, ...]:
    """Some modules, completed to whole groups; each once, in the order of the first."""
    return tuple(dict.fromkeys(part for m in modules for part in fused_group(m, layers)))


def fused_names(kept: Collection[str]) -> set[str]:
    """Names under which engines know the groups that are kept as a whole.

    >>> fused_names({"mlp.gate_proj", "mlp.up_proj", "self_attn.q_proj"})
    {'mlp.gate_up_proj'}
    """
    found = (_fused(module) for module in kept)
    return {name for name, parts in found if len(parts) > 1 and set(parts) <= set(kept)}


def _fused(module: str) -> tuple[str, tuple[str, ...]]:
    """The name of the fused layer, and its parts; of other layers their own."""
    leaf = module.rpartition(".")[2]
    prefix = module.removesuffix(leaf)
    for name, parts in _FUSED.items():
        if leaf in parts:
            return prefix + name, tuple(prefix + part for part in parts)
    return module, (module,)
