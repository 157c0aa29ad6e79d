"""Bases, artifacts and a float64 reference that shares no code with the packages under test."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from exporter import ExportRequest, export
from tests.conftest import tiny_config
from tests.forked import ForkServer
from tinylora import LowRankDelta, QuantizedWeight, save_artifact

SUFFIXES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
SEED, RANK, U = 42, 2, 8
SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TOKENS = torch.arange(24).mul(37).remainder(250).unsqueeze(0)


def content(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir())}


def tensors_of(directory: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, whatever its shards."""
    tensors = {}
    for file in sorted(directory.glob("model*.safetensors")):
        tensors |= load_file(file)
    return tensors


def same_tensors(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """The same names with the same dtypes and bits."""
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name


def edited(base: Path, directory: Path, change=None, **config) -> Path:
    """A copy of a checkpoint, its tensors and fields of its config changed."""
    shutil.copytree(base, directory)
    if change is not None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return directory


def weight_of(shape, seed=0, **settings):
    """A 4-bit weight of random bf16 numbers."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * 0.02
    return QuantizedWeight.quantize(values.bfloat16(), **settings)


def delta_of(shape, size, seed=1):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn((shape[0], 2), generator=generator) * size
    return LowRankDelta(left, torch.randn((2, shape[1]), generator=generator))


@pytest.fixture(scope="session")
def make_base(tmp_path_factory) -> Callable[..., Path]:
    """Write a 16- or 32-bit checkpoint: ``make_base(dtype, max_shard_size=..., **config)``."""
    from transformers import Qwen2ForCausalLM

    settings = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 160}
    settings |= {"max_position_embeddings": 128}

    def make(dtype=torch.bfloat16, *, max_shard_size="1GB", **changes) -> Path:
        directory = tmp_path_factory.mktemp("base") / "tiny-qwen"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Qwen2ForCausalLM(tiny_config(**(settings | changes)))
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):  # zero at initialisation, and then no test of biases
                    parameter.data.normal_(0, 0.1)
        model.to(dtype).save_pretrained(directory, max_shard_size=max_shard_size)
        (directory / "tokenizer_config.json").write_text('{"chat_template": "x"}\n')
        (directory / "LICENSE").write_text("the licence\n")
        (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
        return directory

    return make


@pytest.fixture(scope="session")
def base(make_base) -> Path:
    return make_base()


@pytest.fixture
def copy(base, tmp_path) -> Path:
    """A copy of the base, to be spoilt."""
    return shutil.copytree(base, tmp_path / "tiny-qwen")


@pytest.fixture(scope="session")
def make_4bit(tmp_path_factory) -> Callable[..., Path]:
    """A base as a bitsandbytes checkpoint, written here without the exporter.

    ``make_4bit(base, skip, quant_type, blocksize, double)``; ``skip`` stays in 16 bits; ``double``
    says of each name whether the scales are quantized too, or is one answer for all.
    """

    from bitsandbytes.functional import quantize_4bit

    def make(base: Path, skip=(), quant_type="nf4", blocksize=64, double=True) -> Path:
        directory = tmp_path_factory.mktemp("base4") / "tiny-qwen"
        shutil.copytree(base, directory, ignore=shutil.ignore_patterns("*.safetensors"))
        tensors = {}
        for name, tensor in load_file(base / "model.safetensors").items():
            module = name.removesuffix(".weight")
            if not module.endswith(SUFFIXES) or module in skip:
                tensors[name] = tensor
                continue
            packed, state = quantize_4bit(
                tensor,
                blocksize=blocksize,
                compress_statistics=double(name) if callable(double) else double,
                quant_type=quant_type,
            )
            tensors[name] = packed
            for key, value in state.as_dict(packed=True).items():
                tensors[f"{name}.{key}"] = value
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((base / "config.json").read_text())
        config["quantization_config"] = {
            "load_in_4bit": True,
            "quant_method": "bitsandbytes",
            "bnb_4bit_quant_type": quant_type,
            "bnb_4bit_use_double_quant": True if callable(double) else double,
            "bnb_4bit_compute_dtype": "bfloat16",
            "bnb_4bit_quant_storage": "uint8",
            # a list replaces what transformers would leave out by itself, the head
            **({"llm_int8_skip_modules": ["lm_head", *skip]} if skip else {}),
        }
        (directory / "config.json").write_text(json.dumps(config, indent=3))
        return directory

    return make


@pytest.fixture(scope="session")
def base_4bit(base, make_4bit) -> Path:
    return make_4bit(base)


@pytest.fixture(scope="session")
def talking(make_base) -> Path:
    """A base that has a tokenizer."""
    from tests.exporter.talking import VOCABULARY, write_tokenizer

    directory = make_base(vocab_size=VOCABULARY)
    write_tokenizer(directory)
    return directory


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Callable[[int], Path]:
    """``texts(number)``: a file of six short texts, others for each number."""
    from tests.exporter.talking import write_rows

    def make(number: int) -> Path:
        draw = random.Random(number)
        words = ["sum", "of", "n", "int", "for", "main", "(", ")", "0", "1", "return", "if"]
        rows: list[object] = []
        for row in range(6):
            text = " ".join(draw.choices(words, k=6 + 3 * row))
            chat = {"prompt": text, "completion": " ".join(draw.choices(words, k=8))}
            rows.append(chat if row % 2 else {"text": text})
        return write_rows(tmp_path_factory.mktemp("texts") / f"{number}.jsonl", rows)

    return make


@pytest.fixture(scope="session")
def make_artifact(tmp_path_factory) -> Callable[..., Path]:
    """``make_artifact(size)``: P from the CPU generator, so that the reference can draw it."""

    def make(size: float, layers: int = 14, **changes) -> Path:
        path = tmp_path_factory.mktemp("artifact") / "tiny_lora_v.pt"
        fields = {
            "global_v": torch.linspace(-1, 1.3, U) * size,
            "rank": RANK,
            "seed": SEED,
            "model_id": "someone/tiny-qwen",
            "total_replaced_layers": layers,
            "saved_device": "cpu",
            "formula": "full",
        }
        save_artifact(path, **(fields | changes))
        return path

    return make


@pytest.fixture(scope="session")
def artifact(make_artifact) -> Path:
    return make_artifact(3e-3)


@pytest.fixture
def run(tmp_path):
    """Export into a fresh directory: ``run(base, artifact, format, **request fields)``."""

    def call(base: Path, artifact: Path, format: str, *, name: str = "out", **fields):
        request = ExportRequest(base, artifact, tmp_path / name, format=format, **fields)
        return export(request)

    return call


def seen_weight(tensor: Tensor) -> Tensor:
    """What training saw of a weight: bf16, through bitsandbytes and back."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(
        tensor.to(torch.bfloat16), compress_statistics=True, quant_type="nf4"
    )
    return dequantize_4bit(packed, state)


def bf16_svd(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and Vh, cut and rounded as in training; on one thread, as more may round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        U_, S, Vh = torch.linalg.svd(weight.float(), full_matrices=False)
    finally:
        torch.set_num_threads(threads)
    return tuple(t.to(torch.bfloat16) for t in (U_[:, :RANK], S[:RANK], Vh[:RANK]))


def reference_delta(weight: Tensor, projection: Tensor, vector: Tensor) -> Tensor:
    """U diag(S) R Vh in float64 from factors that were rounded to bf16, as the trainer's are."""
    U_, S, Vh = (t.double() for t in bf16_svd(weight))
    v, P = vector.double(), projection.double()
    core = torch.einsum("i,ijk->jk", v, P) if P.dim() == 3 else torch.diag(v @ P)
    return U_ @ torch.diag(S) @ core @ Vh


@pytest.fixture(scope="session")
def references():
    """``references(base, size) -> {"seen": ..., "delta": ...}`` by weight name, float64."""

    def build(base: Path, size: float) -> dict[str, dict[str, Tensor]]:
        tensors = tensors_of(base)
        vector = (torch.linspace(-1, 1.3, U) * size).to(torch.bfloat16)
        generator = torch.Generator("cpu").manual_seed(SEED)
        layers = json.loads((base / "config.json").read_text())["num_hidden_layers"]
        seen, delta = {}, {}
        for layer in range(layers):
            for suffix in SUFFIXES:
                name = f"model.layers.{layer}.{suffix}.weight"
                projection = torch.randn(U, RANK, RANK, generator=generator, dtype=torch.bfloat16)
                seen[name] = seen_weight(tensors[name])
                delta[name] = reference_delta(seen[name], projection, vector)
        return {
            "seen": {name: weight.double() for name, weight in seen.items()},
            "delta": delta,
            "tensors": tensors,
        }

    return build


@pytest.fixture(scope="session")
def reference_logits(references):
    """``reference_logits(base, size)``: logits of a float64 dense model, W + ΔW."""
    from tests.exporter.dense_reference import dense_logits, restored_weights

    def compute(base: Path, size: float) -> Tensor:
        weights = restored_weights(references(base, size), 1.0)
        return dense_logits(base, weights, TOKENS.tolist())[0]

    return compute


@pytest.fixture(scope="session")
def logits():
    """``logits(directory, dtype=None)``: logits of a plain from_pretrained model, float64."""
    from transformers import AutoModelForCausalLM

    @torch.no_grad()
    def compute(directory: Path, **options) -> Tensor:
        return AutoModelForCausalLM.from_pretrained(directory, **options)(TOKENS).logits[0].double()

    return compute


@pytest.fixture(scope="session")
def server(base, artifact, tmp_path_factory):
    out = tmp_path_factory.mktemp("first") / "out"
    first = {"base": str(base), "artifact": str(artifact), "out": str(out)}
    found = ForkServer("tests.exporter.export_child", first)
    yield found
    found.close()
