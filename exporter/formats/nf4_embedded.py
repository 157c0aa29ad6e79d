"""``nf4-embedded``: the 4-bit base as it is, with the delta beside it as a LoRA adapter."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from exporter.base.checkpoint import Checkpoint
from exporter.formats.encoding import Encoding, Source
from exporter.formats.format import AdapterFile, Format
from exporter.formats.lora import LoraFile, pair_dtype
from exporter.formats.nf4 import Nf4


@dataclass(frozen=True)
class Nf4Embedded(Format):
    """Keeps the delta, and needs ``peft`` to load; the LoRA pair is ``fp32`` or ``fp16``."""

    adapter_dtype: str = "fp32"
    name: ClassVar[str] = "nf4-embedded"
    content: ClassVar[str] = (
        "The 4-bit base, code for code, with the delta beside it as a LoRA adapter."
    )
    note: ClassVar[str] = (
        "> **`peft` must be installed.** Without it transformers loads the base alone and says "
        "nothing.\n"
        "> Load from a local directory: from a hub id transformers looks for another base.\n"
    )
    merged: ClassVar[bool] = False

    @property
    def adapter(self) -> AdapterFile:
        """The LoRA beside the base."""
        return LoraFile(pair_dtype(self.adapter_dtype), beside_base=True)

    def encoding(self, module: str, source: Source, base: Checkpoint) -> Encoding:
        """The base's weights."""
        return Nf4().encoding(module, source, base)

    def config(self, base: Checkpoint, kept: tuple[str, ...]) -> Any:
        """The base's configuration."""
        return Nf4().config(base, kept)

    def loaded_problems(self, model: Any) -> Iterator[str]:
        """No layer in 4 bits, or no adapter."""
        yield from Nf4().loaded_problems(model)
        if not getattr(model, "peft_config", None):
            yield "the adapter was not attached; is peft installed?"
