"""The small JSON files beside the weights: config.json, the shard index, adapter_config.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import CONFIG_FILE, Checkpoint
from exporter.errors import CheckpointError, CheckpointMissingError
from exporter.formats.formats import Format
from exporter.plan.plan import TRAINER_DTYPE
from exporter.safetensors.header import TensorHeader
from tinylora import AdapterSizes
from tinylora.adapters import peft_directory

ADAPTER_CONFIG_FILE = peft_directory.CONFIG_FILE

_WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt"}
)


def config_text(base: Checkpoint, layout: Format, kept: Sequence[str]) -> str | None:
    """``config.json`` of the output, or None where the base's stays as it is, byte for byte.

    Args:
        base: The base checkpoint.
        layout: The output format.
        kept: Linear modules that stay in 16 bits.
    """
    if layout.weights == "4bit" and base.is_4bit:
        return _base_4bit_config(base, kept)
    config = dict(base.config)
    dtype = layout.dtype or TRAINER_DTYPE
    key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
    config[key] = str(dtype).removeprefix("torch.")
    if layout.weights == "4bit":
        config["quantization_config"] = quantization_config(kept)
    else:
        config.pop("quantization_config", None)
    if config == base.config:
        return None
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def _base_4bit_config(base: Checkpoint, kept: Sequence[str]) -> str | None:
    """The 4-bit base's own configuration, but for modules that it had in 4 bits."""
    if not any(f"{module}.weight" in base.packed for module in kept):
        return None
    settings = dict(base.config["quantization_config"])
    named = settings.get("llm_int8_skip_modules") or []
    settings["llm_int8_skip_modules"] = sorted({*named, *kept})
    config = dict(base.config) | {"quantization_config": settings}
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def quantization_config(kept: Sequence[str]) -> dict[str, Any]:
    """The trainer's bitsandbytes settings, as transformers writes them.

    Args:
        kept: Linear modules that are stored in 16 bits.
    """
    return {
        "_load_in_4bit": True,
        "_load_in_8bit": False,
        "bnb_4bit_compute_dtype": "float16",
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": list(kept),
        "llm_int8_threshold": 6.0,
        "load_in_4bit": True,
        "load_in_8bit": False,
        "quant_method": "bitsandbytes",
    }


def index_text(headers: Sequence[TensorHeader]) -> str:
    """``model.safetensors.index.json``; ``total_size`` is in bytes of tensor data.

    Args:
        headers: Every tensor of the written shards.
    """
    index = {
        "metadata": {"total_size": sum(header.nbytes for header in headers)},
        "weight_map": {header.name: header.file for header in sorted(headers, key=_by_name)},
    }
    return json.dumps(index, indent=2, ensure_ascii=False) + "\n"


def tinylora_config(
    architecture: Architecture, sizes: AdapterSizes, weight_tying: float, model_id: str
) -> dict[str, Any]:
    """PEFT's ``adapter_config.json`` of a TinyLoRA adapter that stores its projections.

    Args:
        architecture: The base's modules.
        sizes: The adapter's sizes.
        weight_tying: How many modules share a vector, as PEFT measures it.
        model_id: Hub id of the base, or nothing.
    """
    return {
        "auto_mapping": None,
        "base_model_name_or_path": model_id or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_weights": True,
        "modules_to_save": None,
        "peft_type": "TINYLORA",
        "projection_seed": 0,  # without effect: P is stored
        "r": sizes.rank,
        "revision": None,
        "save_projection": True,
        "target_modules": _patterns(architecture),
        "task_type": "CAUSAL_LM",
        "tinylora_dropout": 0.0,
        "u": sizes.u,
        "weight_tying": weight_tying,
    }


def adapter_config(
    architecture: Architecture, layout: Format, rank: int, model_id: str
) -> dict[str, Any]:
    """PEFT's ``adapter_config.json`` of a LoRA with scale 1.

    Args:
        architecture: The base's modules.
        layout: The output format. An adapter with its base in one directory names no base, so that
            nothing can fetch another one instead.
        rank: LoRA rank; ``lora_alpha`` is the same.
        model_id: Hub id of the base.
    """
    return {
        "auto_mapping": None,
        "base_model_name_or_path": (model_id or None) if layout.weights == "none" else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "revision": None,
        "target_modules": _patterns(architecture),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def _patterns(architecture: Architecture) -> list[str]:
    """``target_modules``: the last names where those single out the targets, else whole names."""
    leaves = sorted({name.rsplit(".", 1)[-1] for name in architecture.targets})
    return leaves if architecture.same_leaf else sorted(architecture.targets)


def carried_files(base: Path, own: frozenset[str]) -> Mapping[str, Path]:
    """Files of the base that go along byte for byte, by their name in the output.

    Weights, shard indexes and hidden directories stay behind; the base's model card becomes
    ``BASE_README.md``, or ``BASE_BASE_README.md`` where it has a file of that name too.

    Args:
        base: The base directory.
        own: Names that the export writes itself.

    Raises:
        CheckpointMissingError: One of them is a link to a file that is not there.
        CheckpointError: A name that no manifest can hold.
    """
    carried: dict[str, Path] = {}
    for path in sorted(base.rglob("*")):
        relative = path.relative_to(base)
        name = _card_name(base) if str(relative) == "README.md" else relative.as_posix()
        if _stays_behind(relative) or name in own:
            continue
        if not name.isprintable():  # nor are bytes that are no UTF-8
            raise CheckpointError(
                f"{base}: a file is named {ascii(name)}, which is no printable text; rename or "
                "remove it"
            )
        if path.is_symlink() and not path.exists():
            raise CheckpointMissingError(
                f"{path}: is a link to {path.readlink()}, which is not there; finish the download "
                "of the base, or remove the link"
            )
        if path.is_file():
            carried[name] = path
    return carried


def _stays_behind(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts[:-1])
    index = relative.name.endswith((".safetensors.index.json", ".bin.index.json"))
    return hidden or index or relative.suffix in _WEIGHT_SUFFIXES


def _card_name(base: Path) -> str:
    name = "BASE_README.md"
    while (base / name).exists():
        name = f"BASE_{name}"
    return name


def _by_name(header: TensorHeader) -> str:
    return header.name


__all__ = [
    "ADAPTER_CONFIG_FILE",
    "CONFIG_FILE",
    "adapter_config",
    "carried_files",
    "config_text",
    "index_text",
    "quantization_config",
    "tinylora_config",
]
