"""What a GGUF file says of a model, and where its tensors go, for the families that are known.

Names and key words are those of the ``gguf`` package; what llama.cpp makes of them is in its
``src/models``. Whatever it would compute otherwise than transformers is refused here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporter.base.architecture import Architecture
from exporter.errors import PlanError, RequestError
from tinylora.models.pretrained import load_auto


@dataclass(frozen=True)
class Family:
    """An architecture as llama.cpp has it.

    Attributes:
        arch: Its name there.
        activation: The only one that it computes.
        permutes: Whether it rotates neighbours in a head, where transformers rotates halves.
        norm_plus_one: Whether norms are stored as the factor itself, and not as its excess over 1.
        sliding_period: Every n-th layer sees all positions, the others a window; 0: all see all.
    """

    arch: str
    activation: str = "silu"
    permutes: bool = False
    norm_plus_one: bool = False
    sliding_period: int = 0


# by ``model_type`` of config.json
FAMILIES: Mapping[str, Family] = {
    "llama": Family("llama", permutes=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "gemma": Family("gemma", "gelu_pytorch_tanh", norm_plus_one=True),
    "gemma2": Family("gemma2", "gelu_pytorch_tanh", norm_plus_one=True, sliding_period=2),
    "gemma3_text": Family("gemma3", "gelu_pytorch_tanh", norm_plus_one=True, sliding_period=6),
}


@dataclass(frozen=True)
class Place:
    """Where a tensor goes: its name there, and what is done to its values, if anything."""

    name: str
    change: Callable[[Tensor], Tensor] | None = None


def gguf_package() -> Any:
    """The ``gguf`` package; RequestError where it is not installed."""
    try:
        import gguf
    except ImportError as error:
        raise RequestError(
            "the gguf formats need the package gguf: pip install 'tinylora-export[gguf]'"
        ) from error
    return gguf


@dataclass(frozen=True)
class GgufModel:
    """A model of a known family; ``config`` is transformers' object."""

    family: Family
    config: Any
    path: Path

    @property
    def head_dim(self) -> int:
        """Size of an attention head."""
        given = getattr(self.config, "head_dim", None)
        return int(given or self.config.hidden_size // self.config.num_attention_heads)

    def describe(self, writer: Any) -> None:
        """Give a ``gguf.GGUFWriter`` the sizes and settings of the model."""
        config = self.config
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(self.head_dim)
        writer.add_value_length(self.head_dim)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(self.head_dim)
        self._describe_rope(writer)
        if self.family.sliding_period:
            writer.add_sliding_window(config.sliding_window)
        if cap := getattr(config, "attn_logit_softcapping", None):
            writer.add_attn_logit_softcapping(cap)
        if cap := getattr(config, "final_logit_softcapping", None):
            writer.add_final_logit_softcapping(cap)

    def places(self, architecture: Architecture) -> dict[str, Place]:
        """Where each parameter goes, by its name in the checkpoint."""
        return {name: self._place(name) for name in architecture.parameters}

    def lora_places(self, modules: Iterable[tuple[str, str, str]]) -> dict[str, Place]:
        """Where LoRA pairs go; each entry has a module and the names of its A and B."""
        places = {}
        for module, name_a, name_b in modules:
            weight = self._place(f"{module}.weight")
            places[name_a] = Place(f"{weight.name}.lora_a")
            places[name_b] = Place(f"{weight.name}.lora_b", weight.change)
        return places

    def extra_tensors(self) -> dict[str, Tensor]:
        """Tensors that no checkpoint has: what llama3's scaling divides each frequency by."""
        rope = self._rope()
        if rope["rope_type"] != "llama3":
            return {}
        dim, context = self.head_dim, rope["original_max_position_embeddings"]
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = context / (
            2 * math.pi * rope["rope_theta"] ** (torch.arange(0, dim, 2).double() / dim)
        )
        kept = ((turns - low) / (high - low)).clamp(0, 1)  # 1: fast enough to stay as it is
        return {"rope_freqs.weight": (1 / ((1 - kept) / rope["factor"] + kept)).float()}

    def _place(self, name: str) -> Place:
        gguf, config = gguf_package(), self.config
        arch = gguf.MODEL_ARCH[self.family.arch.upper()]
        names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise PlanError(
                f"{self.path}: llama.cpp has no place for the tensor {name!r} in a model of type "
                f"{self.config.model_type}; use fp32 or lora"
            )
        leaf = name.rsplit(".", 2)[-2]
        if self.family.norm_plus_one and leaf.endswith("norm"):
            return Place(found, _plus_one)
        if self.family.permutes and leaf in ("q_proj", "k_proj"):
            query = leaf == "q_proj"
            heads = config.num_attention_heads if query else config.num_key_value_heads
            return Place(found, partial(_neighbours, heads))
        return Place(found)

    def _rope(self) -> Mapping[str, Any]:
        """Rotation of the layers that see all positions."""
        every: Mapping[str, Any] = self.config.rope_parameters
        rope: Mapping[str, Any] = every.get("full_attention", every)
        return rope

    def _describe_rope(self, writer: Any) -> None:
        rope, types = self._rope(), gguf_package().RopeScalingType
        writer.add_rope_freq_base(rope["rope_theta"])
        if local := self.config.rope_parameters.get("sliding_attention"):
            writer.add_rope_freq_base_swa(local["rope_theta"])
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(types.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        if rope["rope_type"] == "yarn":
            writer.add_rope_scaling_type(types.YARN)
            writer.add_rope_scaling_factor(rope["factor"])
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def gguf_model(path: Path) -> GgufModel:
    """The model of a base; PlanError where llama.cpp would compute something else."""
    gguf_package()
    config = load_auto("AutoConfig", path)
    if config.model_type not in FAMILIES:
        raise PlanError(
            f"{path}: a model of type {config.model_type!r} cannot be written as GGUF; the types "
            f"are {', '.join(FAMILIES)}; use bf16, fp32 or lora and llama.cpp's own converter"
        )
    model = GgufModel(FAMILIES[config.model_type], config, path)
    for found, expected in _differences(model):
        raise PlanError(
            f"{path}: config.json has {found}, and llama.cpp computes {expected} for a model of "
            f"type {config.model_type}; use fp32 or lora"
        )
    return model


def _differences(model: GgufModel) -> Iterator[tuple[str, str]]:
    """Settings that llama.cpp would not heed: what is set, and what it does instead."""
    config, family, head_dim = model.config, model.family, model.head_dim
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if activation != family.activation:
        yield f"the activation {activation!r}", f"{family.activation!r}"
    rope = model._rope()
    if rope["rope_type"] not in ("default", "linear", "yarn", "llama3"):
        yield f"rope_type {rope['rope_type']!r}", "default, linear, yarn or llama3"
    window = config.rope_parameters.get("sliding_attention", {})
    if window.get("rope_type", "default") != "default":
        yield f"rope_type {window['rope_type']!r} for layers in a window", "default"
    for one in (rope, window):
        for name in ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"):
            if one.get(name) is not None:
                yield f"{name} {one[name]} for rotation", "its default"
        if one.get("partial_rotary_factor", 1.0) != 1.0:
            yield f"partial_rotary_factor {one['partial_rotary_factor']}", "1"
    if family.arch == "qwen2" and head_dim * config.num_attention_heads != config.hidden_size:
        yield f"head_dim {head_dim}", "hidden_size / num_attention_heads"
    if family.arch != "llama" and family.arch != "qwen2" and config.attention_bias:
        yield "attention_bias", "none"
    scale = getattr(config, "query_pre_attn_scalar", None)
    if family.sliding_period and scale != _attention_scale(model):
        yield f"query_pre_attn_scalar {scale}", f"{_attention_scale(model)}"
    if getattr(config, "use_bidirectional_attention", False):
        yield "use_bidirectional_attention", "causal attention"
    period, kinds = family.sliding_period, getattr(config, "layer_types", None)
    full = [not period or (i + 1) % period == 0 for i in range(config.num_hidden_layers)]
    if kinds and [kind == "full_attention" for kind in kinds] != full:
        seen = f"all but every {period}th layer in a window" if period else "all layers in full"
        yield f"layer_types {kinds}", seen


def _attention_scale(model: GgufModel) -> int:
    """What llama.cpp divides scores by the root of; models of 27 billion parameters differ."""
    config = model.config
    large = {"gemma2": 46, "gemma3": 62}.get(model.family.arch)
    if config.num_hidden_layers == large:
        return int(config.hidden_size // config.num_attention_heads)
    return model.head_dim


def _plus_one(norm: Tensor) -> Tensor:
    """The factor, float32; a checkpoint has its excess over 1."""
    return norm.float() + 1


def _neighbours(heads: int, rows: Tensor) -> Tensor:
    """Rows of a query or key layer, those that are rotated together brought side by side."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape).contiguous()
