"""``gguf`` and ``gguf-lora``: the merged model, or the delta alone, as a file of llama.cpp."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import Checkpoint
from exporter.formats.dense import Dense
from exporter.formats.format import Format
from exporter.formats.lora import LoraFormat, lora_names
from exporter.gguf.families import gguf_model, gguf_package
from exporter.gguf.file import GgufForm, open_gguf
from exporter.gguf.tokenizer import describe_tokenizer
from exporter.safetensors.reader import DataFile
from exporter.safetensors.writer import FileForm
from tinylora import AdapterSizes
from tinylora.adapters.peft_directory import WEIGHTS_FILE

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
_FILE_TYPES = {"f32": "ALL_F32", "bf16": "MOSTLY_BF16", "f16": "MOSTLY_F16"}
ADAPTER_FILE = Path(WEIGHTS_FILE).with_suffix(".gguf").name


class _InLlamaCpp(Format):
    """What both formats have in common."""

    library: ClassVar[str] = "gguf"

    def open_file(self, path: Path) -> DataFile:
        """A GGUF file."""
        return open_gguf(path)


@dataclass(frozen=True)
class Gguf(_InLlamaCpp, Dense):
    """One file of weights in ``f32``, ``bf16`` or ``f16``, with the tokenizer in it."""

    gguf_dtype: str = "f32"
    name: ClassVar[str] = "gguf"
    content: ClassVar[str] = (
        "The delta is merged into dense weights, in one GGUF file for llama.cpp and what is built "
        "on it. Quantizing that file afterwards drowns a delta of real size in rounding."
    )

    @property
    def dtype(self) -> torch.dtype:
        """Of matrices; vectors are float32."""
        return DTYPES[self.gguf_dtype]

    def file_form(
        self, base: Checkpoint, architecture: Architecture, sizes: AdapterSizes
    ) -> FileForm:
        """One file with settings and tokenizer."""
        gguf, model = gguf_package(), gguf_model(base.path)
        writer = gguf.GGUFWriter(None, model.family.arch)
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[self.gguf_dtype]])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        if isinstance(name := base.config.get("_name_or_path"), str) and name:
            writer.add_name(name.rstrip("/").rsplit("/", 1)[-1])
        model.describe(writer)
        describe_tokenizer(writer, base.path, model.config.vocab_size)
        return GgufForm(writer, model.places(architecture), model.extra_tensors())

    def loading(self, model_id: str, trained_on: str) -> str:
        """With llama.cpp's server."""
        return "llama-server -m model.gguf\n"


class GgufLora(_InLlamaCpp, LoraFormat):
    """A LoRA for a base in llama.cpp, which may be quantized there."""

    name: ClassVar[str] = "gguf-lora"
    content: ClassVar[str] = (
        "The delta alone, as a LoRA in a GGUF file. llama.cpp adds it to any GGUF of the base, "
        "which may be quantized; the delta itself is not rounded then."
    )
    standalone: ClassVar[bool] = False

    def file_form(
        self, base: Checkpoint, architecture: Architecture, sizes: AdapterSizes
    ) -> FileForm:
        """One file of pairs."""
        gguf, model = gguf_package(), gguf_model(base.path)
        writer = gguf.GGUFWriter(None, model.family.arch)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(sizes.rank))
        pairs = ((module, *lora_names(module)) for module in architecture.targets)
        return GgufForm(writer, model.lora_places(pairs), {})

    def adapter_config(
        self, architecture: Architecture, sizes: AdapterSizes, weight_tying: float, model_id: str
    ) -> dict[str, Any]:
        """None: it is in the file."""
        return {}

    def adapter_problems(self, directory: Path, targets: list[str]) -> Iterator[str]:
        """Another scale, or a pair that is not whole."""
        reader, file = gguf_package().GGUFReader, open_gguf(directory / ADAPTER_FILE)
        alpha = reader(file.path).get_field(gguf_package().Keys.Adapter.LORA_ALPHA)
        pairs = {name.removesuffix(".lora_a") for name in file.headers if name.endswith(".lora_a")}
        if len(pairs) != len(targets):
            yield f"{file.path}: {len(pairs)} pairs for {len(targets)} modules"
        for name in sorted(pairs):
            left = file.headers.get(f"{name}.lora_b")
            rank = file.headers[f"{name}.lora_a"].shape[0]
            if left is None or left.shape[1:] != (rank,):
                yield f"{file.path}: {name} has no lora_b of rank {rank}"
            if alpha is None or alpha.contents() != rank:
                yield f"{file.path}: {name} has another scale than 1"

    def loading(self, model_id: str, trained_on: str) -> str:
        """With llama.cpp's server."""
        return f"llama-server -m base.gguf --lora {ADAPTER_FILE}\n"
