"""What the programs that serve models make of an export. docs/serving.md says the same.

Read from the loaders of the versions named; ``ran`` says what of it also ran.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from exporter.errors import RequestError
from exporter.formats.fused import fused_group, fused_names


@dataclass(frozen=True)
class Answer:
    """Whether a program serves what was trained, and what it needs for that, or does instead."""

    serves: bool
    text: str


@dataclass(frozen=True)
class Engine:
    """A program that serves models.

    Attributes:
        name: As people write it.
        version: Whose loader the answers are of.
        ran: What of it ran for this.
        fuses: Whether it runs q, k, v and gate, up as one layer each.
        answers: By format.
    """

    name: str
    version: str
    ran: str
    fuses: bool
    answers: Mapping[str, Answer]

    @property
    def about(self) -> str:
        """Name, version, and what ran."""
        return f"{self.name} {self.version}, run here: {self.ran}"


def _answers(answers: Mapping[tuple[str, ...], tuple[bool, str]]) -> Mapping[str, Answer]:
    return MappingProxyType({name: Answer(*a) for names, a in answers.items() for name in names})


_GGUF, _DENSE, _NF4 = ("gguf", "gguf-lora"), ("bf16", "fp16"), ("nf4", "nf4-mixed")
_FOR_LLAMA_CPP = (False, "is a file of llama.cpp; export bf16 or lora for this one")
# vLLM and SGLang
_IN_ENGINES = {
    _DENSE: (True, "serves it in the precision of --dtype; give that of the export"),
    ("fp32",): (True, "needs --dtype float32, else it rounds to 16 bits"),
    ("peft-tinylora",): (False, "knows LoRA, not TinyLoRA; export lora"),
    _GGUF: _FOR_LLAMA_CPP,
}

ENGINES: Mapping[str, Engine] = {
    "transformers": Engine(
        "transformers",
        "5.23.0",
        ran="every format",
        fuses=False,
        answers=_answers(
            {
                ("bf16", "fp16", "fp32"): (True, 'loads with dtype="auto"'),
                _NF4: (True, "needs bitsandbytes 0.46.1 or newer"),
                ("nf4-embedded",): (
                    True,
                    "needs transformers 5.4 or newer, bitsandbytes and peft; without peft it loads "
                    "the base and says nothing",
                ),
                ("lora",): (
                    True,
                    "needs peft, which attaches the adapter to the base as training had it",
                ),
                ("peft-tinylora",): (
                    True,
                    "needs peft 0.19 or newer and the base in 16 or 32 bits: PEFT puts no TinyLoRA "
                    "on 4 bits; where training had those, the result is near, not the same",
                ),
                _GGUF: _FOR_LLAMA_CPP,
            }
        ),
    ),
    "vllm": Engine(
        "vLLM",
        "0.32.0 with vllm-bnb-plugin 0.0.3",
        ran="a dense base and nf4-mixed on the CPU",
        fuses=True,
        answers=_answers(
            {
                **_IN_ENGINES,
                _NF4: (
                    True,
                    "needs bitsandbytes and, from 0.28 on, the package vllm-bnb-plugin",
                ),
                ("nf4-embedded",): (
                    False,
                    "reads adapter_model.safetensors as weights of the model and stops; where the "
                    "weights have an index it serves the base and says nothing. Use "
                    "tinylora-export split, and serve its parts as a base and a LoRA",
                ),
                ("lora",): (
                    True,
                    "needs the base beside it, --enable-lora, and --dtype bfloat16 or float32; ask "
                    "for the adapter's name",
                ),
            }
        ),
    ),
    "sglang": Engine(
        "SGLang",
        "0.5.23",
        ran="nothing",
        fuses=True,
        answers=_answers(
            {
                **_IN_ENGINES,
                _NF4: (
                    True,
                    "needs bitsandbytes 0.46.1 or newer, --load-format bitsandbytes, and one GPU: "
                    "such weights cannot be divided over several",
                ),
                ("nf4-embedded",): (
                    False,
                    "reads every .safetensors file as weights of the model and has no place for an "
                    "adapter there. tinylora-export split parts the two; a LoRA on 4-bit weights "
                    "was not looked at, so use lora on the 16-bit base",
                ),
                ("lora",): (
                    True,
                    "needs the base beside it, --enable-lora, and --dtype bfloat16 or float32; "
                    "name the adapter in each request",
                ),
            }
        ),
    ),
    "llama.cpp": Engine(
        "llama.cpp",
        "of llama-cpp-python 0.3.36",
        ran="both formats",
        fuses=False,
        answers=_answers(
            {
                ("gguf",): (True, "serves it as it is; quantized afterwards, it loses the delta"),
                ("gguf-lora",): (True, "needs a GGUF of the base beside it; f32 keeps the delta"),
                ("bf16", "fp16", "fp32", *_NF4, "nf4-embedded"): (
                    False,
                    "reads GGUF files only; export gguf",
                ),
                ("lora", "peft-tinylora"): (False, "reads GGUF files only; export gguf-lora"),
            }
        ),
    ),
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
