"""All formats of an export, by name. A new one is a line here, and a file of its own.

========================  =========================================  ====================
format                    what it is                                 keeps the delta
========================  =========================================  ====================
``nf4``                   merged, 4-bit as the base has it           as measured; often not
``nf4-mixed``             merged; some modules bf16, the rest 4-bit  by choice
``nf4-embedded``          4-bit base as it is + the delta as a LoRA  exactly
``bf16 fp16 fp32``        merged, dense                              by precision
``lora``                  PEFT LoRA adapter alone                    exactly
``peft-tinylora``         PEFT TinyLoRA adapter alone                exactly
``gguf``                  merged, dense, for llama.cpp               by precision
``gguf-lora``             LoRA adapter alone, for llama.cpp          exactly
========================  =========================================  ====================
"""

from collections.abc import Mapping
from dataclasses import fields
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from exporter.errors import RequestError

if TYPE_CHECKING:
    from exporter.formats.format import Format

# By place and not by class: a command line that only shows the names does not import torch.
FORMATS = {
    "nf4": "exporter.formats.nf4:Nf4",
    "nf4-mixed": "exporter.formats.nf4:Nf4Mixed",
    "nf4-embedded": "exporter.formats.nf4:Nf4Embedded",
    "bf16": "exporter.formats.dense:Bf16",
    "fp16": "exporter.formats.dense:Fp16",
    "fp32": "exporter.formats.dense:Fp32",
    "lora": "exporter.formats.lora:Lora",
    "peft-tinylora": "exporter.formats.peft_tinylora:PeftTinyLora",
    "gguf": "exporter.formats.gguf:Gguf",
    "gguf-lora": "exporter.formats.gguf:GgufLora",
}


def format_with(options: Mapping[str, Any]) -> "Format":
    """The format that options of a request or a manifest name, with those that it takes."""
    found = format_named(options["format"])
    taken = {field.name: options.get(field.name) for field in fields(found)}
    return found(**{name: value for name, value in taken.items() if value is not None})


def format_named(name: str) -> "type[Format]":
    """The format of that name; RequestError if there is none."""
    if name not in FORMATS:
        raise RequestError(f"format {name!r} is unknown; the formats are {', '.join(FORMATS)}")
    found: type[Format] = resolve_name(FORMATS[name])
    return found
