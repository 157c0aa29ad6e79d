"""What the programs that serve models make of an export. docs/serving.md says the same.

Read from the loaders of the versions named; ``ran`` says what of it also ran.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from exporter.errors import RequestError
from exporter.formats.fused import fused_group, fused_names


@dataclass(frozen=True)
class Answer:
    """What a program needs to serve what was trained, or does instead where it does not."""

    text: str
    serves: bool = True


@dataclass(frozen=True)
class Engine:
    """A program that serves models.

    Attributes:
        name: As people write it.
        version: Whose loader the answers are of.
        ran: What of it ran for this.
        answers: By format.
        fuses: Whether it runs q, k, v and gate, up as one layer each.
    """

    name: str
    version: str
    ran: str
    answers: Mapping[str, Answer]
    fuses: bool = False

    @property
    def about(self) -> str:
        """Name, version, and what ran."""
        return f"{self.name} {self.version}, run here: {self.ran}"


_refuses = partial(Answer, serves=False)
_FOR_LLAMA_CPP = _refuses("is a file of llama.cpp; export bf16 or lora for this one")
_TRANSFORMERS = {
    **dict.fromkeys(("bf16", "fp16", "fp32"), Answer('loads with dtype="auto"')),
    **dict.fromkeys(("nf4", "nf4-mixed"), Answer("needs bitsandbytes 0.46.1 or newer")),
    "nf4-embedded": Answer(
        "needs transformers 5.4 or newer, bitsandbytes and peft; without peft it loads the base "
        "and says nothing"
    ),
    "lora": Answer("needs peft, which attaches the adapter to the base as training had it"),
    "peft-tinylora": Answer(
        "needs peft 0.19 or newer and the base in 16 or 32 bits: PEFT puts no TinyLoRA on 4 bits; "
        "where training had those, the result is near, not the same"
    ),
    **dict.fromkeys(("gguf", "gguf-lora"), _FOR_LLAMA_CPP),
}
# vLLM and SGLang
_IN_ENGINES = {
    **dict.fromkeys(
        ("bf16", "fp16"),
        Answer("serves it in the precision of --dtype; give that of the export"),
    ),
    "fp32": Answer("needs --dtype float32, else it rounds to 16 bits"),
    "peft-tinylora": _refuses("knows LoRA, not TinyLoRA; export lora"),
    **dict.fromkeys(("gguf", "gguf-lora"), _FOR_LLAMA_CPP),
}
_LORA_IN_ENGINES = "needs the base beside it, --enable-lora, and --dtype bfloat16 or float32; "
_VLLM = {
    **_IN_ENGINES,
    **dict.fromkeys(
        ("nf4", "nf4-mixed"),
        Answer("needs bitsandbytes and, from 0.28 on, the package vllm-bnb-plugin"),
    ),
    "nf4-embedded": _refuses(
        "reads adapter_model.safetensors as weights of the model and stops; where the weights have "
        "an index it serves the base and says nothing. Use tinylora-export split, and serve its "
        "parts as a base and a LoRA"
    ),
    "lora": Answer(f"{_LORA_IN_ENGINES}ask for the adapter's name"),
}
_SGLANG = {
    **_IN_ENGINES,
    **dict.fromkeys(
        ("nf4", "nf4-mixed"),
        Answer(
            "needs bitsandbytes 0.46.1 or newer, --load-format bitsandbytes, and one GPU: such "
            "weights cannot be divided over several"
        ),
    ),
    "nf4-embedded": _refuses(
        "reads every .safetensors file as weights of the model and has no place for an adapter "
        "there. tinylora-export split parts the two; a LoRA on 4-bit weights was not looked at, so "
        "use lora on the 16-bit base"
    ),
    "lora": Answer(f"{_LORA_IN_ENGINES}name the adapter in each request"),
}
_LLAMA_CPP = {
    "gguf": Answer("serves it as it is; quantized afterwards, it loses the delta"),
    "gguf-lora": Answer("needs a GGUF of the base beside it; f32 keeps the delta"),
    **dict.fromkeys(
        ("bf16", "fp16", "fp32", "nf4", "nf4-mixed", "nf4-embedded"),
        _refuses("reads GGUF files only; export gguf"),
    ),
    **dict.fromkeys(("lora", "peft-tinylora"), _refuses("reads GGUF files only; export gguf-lora")),
}

ENGINES = {
    "transformers": Engine("transformers", "5.23.0", "every format", _TRANSFORMERS),
    "vllm": Engine(
        "vLLM",
        "0.32.0 with vllm-bnb-plugin 0.0.3",
        "a dense base and nf4-mixed on the CPU",
        _VLLM,
        fuses=True,
    ),
    "sglang": Engine("SGLang", "0.5.23", "nothing", _SGLANG, fuses=True),
    "llama.cpp": Engine("llama.cpp", "of llama-cpp-python 0.3.36", "both formats", _LLAMA_CPP),
}


def engine_named(name: str) -> Engine:
    """The engine of that name; RequestError if nothing is known of it."""
    if name not in ENGINES:
        raise RequestError(f"nothing is known of the engine {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name]


def serving_problems(
    engine: Engine, format: str, config: Mapping[str, Any], targets: list[str]
) -> Iterator[str]:
    """Why an engine would not serve what was trained.

    Args:
        engine: The program.
        format: Of the export.
        config: Its ``config.json``; empty where it has none.
        targets: Modules that have a delta.
    """
    answer = engine.answers[format]
    if not answer.serves:
        yield f"{engine.name} {answer.text}"
        return
    settings = config.get("quantization_config")
    skipped = settings.get("llm_int8_skip_modules") if isinstance(settings, dict) else None
    kept = {module for module in skipped or () if module in targets}
    if not engine.fuses:
        return
    groups = {fused_group(module, targets) for module in kept}
    for group in sorted(group for group in groups if not kept.issuperset(group)):
        yield (
            f"{engine.name} runs {', '.join(group)} as one layer, and only a part is kept in 16 "
            "bits: it would quantize all of it again; export again with this version"
        )
    for name in sorted(fused_names(kept) - set(skipped or ())):
        yield (
            f"llm_int8_skip_modules in config.json does not have {name}, which is what "
            f"{engine.name} calls layers that are kept: it would quantize them again; export again "
            "with this version"
        )
