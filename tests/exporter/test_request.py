"""What may be asked for together."""

from pathlib import Path

import pytest

from exporter.errors import RequestError
from exporter.request import ExportRequest, check_request, parse_size
from tinylora import DeltaOptions

TEXTS = Path("texts.jsonl")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"format": "auto"}, "needs --target-residual"),
        ({"format": "auto", "requantize": "recompute", "target_residual": 0.1}, "itself"),
        ({"format": "auto", "target_residual": 0.1, "max_bytes": 5}, "--max-bytes applies"),
        ({"format": "auto", "target_residual": 0.1, "keep": ("a",)}, "itself"),
        ({"format": "auto", "target_residual": 0.1, "gguf_dtype": "bf16"}, "bf16 applies to gguf,"),
        ({"format": "bf16", "gguf_dtype": "f16"}, "--gguf-dtype f16 applies to gguf, not to bf16"),
        *[
            ({"format": format, "max_shard_size": 9}, f"--max-shard-size: {format} writes one file")
            for format in ("gguf", "lora", "gguf-lora", "peft-tinylora")
        ],
        ({"format": "nf4-mixed", "keep": ("a",), "max_bytes": 9}, "--max-bytes applies"),
        ({"format": "nf4-mixed", "keep": ("a",), "target_residual": 0.1}, "residual applies"),
        ({"format": "auto", "target_residual": 0.1, "adapter_dtype": "fp8"}, "'fp8' is unknown"),
        ({"format": "nf4-mixed", "target_residual": 0.1}, "needs --prompts"),
        ({"format": "nf4-mixed", "prompts": TEXTS}, "--target-residual, --max-bytes, or both"),
        ({"format": "nf4", "requantize": "calibrated"}, "calibrated needs --prompts"),
        ({"format": "nf4-mixed", "requantize": "calibrated", "keep": ("a",)}, "needs --prompts"),
        ({"format": "bf16", "requantize": "calibrated", "prompts": TEXTS}, "applies to nf4"),
        ({"format": "nf4", "prompts": TEXTS}, "--prompts has no use"),
        ({"format": "nf4", "keep": ("a",)}, "keep applies"),
        ({"format": "nf4", "target_residual": 0.1}, "--target-residual applies"),
        ({"format": "nf4", "max_bytes": 10}, "--max-bytes applies"),
        ({"format": "nf4", "without_peft": True}, "--without-peft applies"),
        ({"format": "lora", "check_prompts": TEXTS}, "transformers does not load a lora export"),
        ({"format": "nf4-mixed", "fold_onto": "original", "keep": ("a",)}, "applies to bf16"),
        *[
            ({"format": "auto", "target_residual": bad}, "above 0 and below 1")
            for bad in (0, 1, -1, 2, float("nan"), float("inf"))
        ],
        ({"format": "nf4-mixed", "prompts": TEXTS, "max_bytes": 0}, "at least 1 byte"),
        ({"format": "nf8", "prompts": TEXTS}, "nf8"),
        ({"format": "lora", "options": DeltaOptions(numerics="trainer")}, "trainer"),
        ({"format": "nf4", "fold_onto": "original"}, "original"),
        ({"format": "fp32", "requantize": "recompute"}, "recompute"),
        ({"format": "nf4", "require_capture": 2.0}, "require-capture"),
        ({"format": "nf4", "device": "nowhere"}, "--device 'nowhere' is unknown; expected cpu"),
        ({"format": "nf4", "device": "cuda:99"}, "cuda:99: torch sees . CUDA devices here"),
        ({"format": "nf4", "require_retention": 0.9}, "--require-retention needs --check-prompts"),
        *[
            ({"format": "nf4", "check_prompts": TEXTS, "require_retention": bad}, "a share above 0")
            for bad in (0, 1.01, float("nan"))
        ],
    ],
)
def test_contradictions_are_refused(fields, match):
    request = ExportRequest(Path("base"), Path("a.pt"), Path("out"), **fields)
    with pytest.raises(RequestError, match=match):
        check_request(request)


@pytest.mark.parametrize(
    ("text", "size"),
    [("123", 123), ("2GB", 2 * 10**9), ("1.5KiB", 1536), ("3 mb", 3_000_000), ("1TiB", 2**40)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5XB", "-", "five", "1e999"])
def test_bad_sizes(text):
    with pytest.raises(RequestError):
        parse_size(text)
