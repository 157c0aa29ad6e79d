"""What an export format is: one object that knows all that is special about it.

A new format is a subclass in a file of its own, and a line in :mod:`exporter.formats.registry`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import Checkpoint
from exporter.formats.encoding import TRAINER_DTYPE, Encoding, Source, VectorUnit
from exporter.safetensors.reader import DataFile, open_data_file
from exporter.safetensors.writer import FileForm
from tinylora import AdapterSizes


@dataclass(frozen=True)
class Format(ABC):
    """A format. The fields of a subclass are the options of an export that it takes.

    Attributes:
        name: On the command line, in the manifest and on the model card.
        content: What is in the files, for the model card.
        needs: What must be there for loading it, in a sentence.
        note: What else one must know when loading it, for the model card (Markdown).
        standalone: Whether the base's weights are in it.
        library: What loads it: ``transformers``, with configuration, tokenizer and other files of
            the base, ``peft``, or ``gguf`` for llama.cpp.
        merged: Whether the delta is added to these weights, else it is an :class:`AdapterFormat`.
    """

    name: ClassVar[str]
    content: ClassVar[str]
    needs: ClassVar[str] = ""
    note: ClassVar[str] = ""
    standalone: ClassVar[bool] = True
    library: ClassVar[str] = "transformers"
    merged: ClassVar[bool] = True

    @classmethod
    def takes(cls, option: str) -> bool:
        """Whether an option of :class:`exporter.request.ExportRequest` applies to the format."""
        return option in {field.name for field in fields(cls)}

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the floating-point tensors that are carried over; None: as training loads them."""
        return None

    @property
    def for_transformers(self) -> bool:
        """Whether plain ``from_pretrained`` loads the directory."""
        return self.library == "transformers"

    @property
    def kept(self) -> tuple[str, ...]:
        """Target modules that stay in 16 bits in a format that stores others in 4."""
        return getattr(self, "keep", ())

    @property
    def stands_on_4_bits(self) -> bool:
        """Whether linear layers have values that a 4-bit weight gave them."""
        return True

    def file_form(
        self, base: Checkpoint, architecture: Architecture, sizes: AdapterSizes
    ) -> FileForm:
        """The form of the weight files; a TinyLoRAError where it cannot hold the model."""
        return FileForm(architecture.in_files)

    def open_file(self, path: Path) -> DataFile:
        """Read a weight file; CheckpointError if it is none."""
        return open_data_file(path)

    def encoding(self, module: str, source: Source, base: Checkpoint) -> Encoding:
        """How the weight of a linear layer is stored. Only standalone formats are asked."""
        raise NotImplementedError

    def config(self, base: Checkpoint, kept: tuple[str, ...]) -> Mapping[str, Any]:
        """``config.json`` of a standalone output, with ``kept`` modules in 16 bits."""
        config = {k: v for k, v in base.config.items() if k != "quantization_config"}
        name = str(self.dtype or TRAINER_DTYPE).removeprefix("torch.")
        config = _in_dtype(config, name)
        return config if _DTYPE_KEYS & config.keys() else config | {"dtype": name}

    def loading(self, model_id: str, trained_on: str) -> str:
        """Python, for ``gguf`` shell, that loads it; ``model_id`` is a Python literal."""
        return (
            "from transformers import AutoModelForCausalLM\n\n"
            'model = AutoModelForCausalLM.from_pretrained("path/to/this/directory")\n'
        )

    def loaded_problems(self, model: Any) -> Iterator[str]:
        """What is wrong with the model that plain ``from_pretrained`` made of the export."""
        return iter(())


class AdapterFormat(Format):
    """A format with the delta in an adapter, alone or beside the base."""

    merged: ClassVar[bool] = False

    @abstractmethod
    def adapter_encoding(self, sizes: AdapterSizes) -> Encoding:
        """How a target module's part of it is stored."""

    def vectors(self, sizes: AdapterSizes) -> Iterator[VectorUnit]:
        """Trained vectors in it."""
        return iter(())

    @abstractmethod
    def adapter_config(
        self, architecture: Architecture, sizes: AdapterSizes, weight_tying: float, model_id: str
    ) -> dict[str, Any]:
        """``adapter_config.json``, empty for none; ``weight_tying`` is what PEFT measures."""

    @abstractmethod
    def adapter_problems(self, directory: Path, targets: list[str]) -> Iterator[str]:
        """Why PEFT would not attach the adapter of a finished export to all its targets."""


# both spellings, where a base has both: which one counts depends on transformers' release
_DTYPE_KEYS = frozenset({"dtype", "torch_dtype"})


def _in_dtype(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration that names this dtype wherever it names one, of its parts too."""
    found = dict(config)
    for key, value in config.items():
        if key in _DTYPE_KEYS:
            found[key] = name
        elif key.endswith("_config") and isinstance(value, dict):
            found[key] = _in_dtype(value, name)
    return found
