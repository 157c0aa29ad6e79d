"""``lora``: the delta alone, as a PEFT LoRA adapter."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import Checkpoint
from exporter.formats.encoding import Encoded, Encoding, Fold, Shape, cast, sums_beside
from exporter.formats.format import AdapterFormat
from exporter.safetensors.reader import DTYPE_NAMES
from exporter.safetensors.writer import TensorSpec
from tinylora import AdapterSizes, LowRankDelta
from tinylora.adapters.lora.adapter import load_lora_adapter
from tinylora.adapters.peft_directory import CONFIG_FILE, WEIGHTS_FILE


@dataclass(frozen=True)
class LoraPair(Encoding):
    """``lora_A`` and ``lora_B``, whose product is the delta, balanced as :func:`lora_pair` says."""

    rank: int
    dtype: torch.dtype
    balanced: bool

    def specs(self, module: str, shape: Shape, base: Checkpoint) -> tuple[TensorSpec, ...]:
        """A ``[r, in]`` and B ``[out, r]``."""
        name_a, name_b = lora_names(module)
        kind, (out, into) = DTYPE_NAMES[self.dtype], shape
        return (
            TensorSpec(name_a, kind, (self.rank, into)),
            TensorSpec(name_b, kind, (out, self.rank)),
        )

    def encode(self, fold: Fold) -> Encoded:
        """Cast the delta's two factors."""
        assert fold.delta is not None, "an adapter holds target modules only"
        delta = fold.delta.padded(self.rank)  # where modules differ, one of a lower rank
        pair = zip(lora_names(fold.module), lora_pair(delta, self.balanced), strict=True)
        where = f"{WEIGHTS_FILE}: tensor"
        tensors = {n: cast(t, self.dtype, f"{where} {n!r}") for n, t in pair}
        return Encoded(tensors, sums_beside(self.decode(fold, tensors), fold.delta))

    def decode(self, fold: Fold, tensors: Mapping[str, Tensor]) -> LowRankDelta:
        """B · A."""
        lora_a, lora_b = (tensors[name].float() for name in lora_names(fold.module))
        return LowRankDelta(lora_b, lora_a)


@dataclass(frozen=True)
class LoraFormat(AdapterFormat):
    """Has the delta in a LoRA of scale 1, whose pairs are ``fp32`` or ``fp16``."""

    adapter_dtype: str = "fp32"

    def adapter_encoding(self, sizes: AdapterSizes) -> Encoding:
        """A pair, balanced where it ends in half precision, on disk or when it is loaded."""
        dtype = torch.float16 if self.adapter_dtype == "fp16" else torch.float32
        return LoraPair(sizes.rank, dtype, self.standalone or dtype == torch.float16)

    def adapter_config(
        self, architecture: Architecture, sizes: AdapterSizes, weight_tying: float, model_id: str
    ) -> dict[str, Any]:
        """``lora_alpha`` is the rank: scale 1."""
        own = {
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "lora_alpha": sizes.rank,
            "lora_dropout": 0.0,
            "use_dora": False,
            "use_rslora": False,
        }
        # a base beside it is not named, so that nothing can fetch another one instead
        named = None if self.standalone else model_id
        return peft_config("LORA", architecture, sizes.rank, named, own)

    def adapter_problems(self, directory: Path, targets: list[str]) -> Iterator[str]:
        """Another scale, or a target without its pair."""
        adapter = load_lora_adapter(directory)
        if not isinstance(adapter.config.target_modules, list):  # PEFT takes names of its own then
            yield f"{CONFIG_FILE}: target_modules is no list of names"
        for module in targets:
            if module not in adapter.shapes:
                yield f"{module} is not among the adapter's modules"
            elif adapter.config.scale_of(module) != 1:
                yield f"{module} has another scale than 1"


class Lora(LoraFormat):
    """A LoRA adapter."""

    name: ClassVar[str] = "lora"
    content: ClassVar[str] = (
        "The delta alone, as a PEFT LoRA adapter; it belongs on the base as training had it."
    )
    standalone: ClassVar[bool] = False
    library: ClassVar[str] = "peft"

    def loading(self, model_id: str, trained_on: str) -> str:
        """On the base as training had it."""
        if trained_on == "16bit":
            return on_dense_base(model_id)
        return (
            "import torch\n"
            "from peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM, BitsAndBytesConfig\n\n"
            "settings = BitsAndBytesConfig(\n"
            '    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,\n'
            "    bnb_4bit_compute_dtype=torch.float16,\n"
            ")\n"
            f"base = AutoModelForCausalLM.from_pretrained({model_id}, dtype=torch.bfloat16,\n"
            "                                            quantization_config=settings)\n"
            'model = PeftModel.from_pretrained(base, "path/to/this/directory")\n'
        )


def lora_names(module: str) -> tuple[str, str]:
    """Keys of ``lora_A`` and ``lora_B`` in a PEFT adapter file."""
    prefix = f"base_model.model.{module}"
    return f"{prefix}.lora_A.weight", f"{prefix}.lora_B.weight"


def lora_pair(delta: LowRankDelta, balanced: bool) -> tuple[Tensor, Tensor]:
    """``lora_A = Vh`` ``[r, in]`` and ``lora_B = U·diag(S)·R`` ``[out, r]``, or both of one size.

    transformers casts an adapter beside its base to float16, where lora_B of a real artifact (1e-5
    and less) would lose digits to the subnormal range. ``balanced`` divides A and multiplies B by a
    power of two, which changes no bit of their product in float32.
    """
    size_a, size_b = float(delta.right.abs().max()), float(delta.left.abs().max())
    if not balanced or size_a == 0 or size_b == 0:
        return delta.right, delta.left
    scale = 2.0 ** round(math.log2(size_a / size_b) / 2)
    return delta.right / scale, delta.left * scale


def peft_config(
    kind: str, architecture: Architecture, rank: int, model_id: str | None, own: dict[str, Any]
) -> dict[str, Any]:
    """``adapter_config.json`` of a kind of adapter, which has fields of its own."""
    # the last names where those single out the targets
    leaves = {name.rsplit(".", 1)[-1] for name in architecture.targets}
    common = {
        "auto_mapping": None,
        "base_model_name_or_path": model_id or None,
        "bias": "none",
        "inference_mode": True,
        "modules_to_save": None,
        "peft_type": kind,
        "r": rank,
        "revision": None,
        "target_modules": sorted(leaves if architecture.same_leaf else architecture.targets),
        "task_type": "CAUSAL_LM",
    }
    return dict(sorted((common | own).items()))


def on_dense_base(model_id: str) -> str:
    """Python that puts an adapter on a 16-bit base."""
    return (
        "import torch\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({model_id}, dtype=torch.bfloat16)\n"
        'model = PeftModel.from_pretrained(base, "path/to/this/directory")\n'
    )
