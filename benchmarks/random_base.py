"""A random-weight Qwen2 checkpoint of a real shape, and an artifact that fits it.

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR

writes ``DIR/base`` (config.json and sharded bf16 safetensors, no tokenizer) and
``DIR/tiny_lora_v.pt``. One tensor is in memory at a time, and each has a seed of its own, so the
bytes do not depend on the shards.

Weights are normal numbers of size 0.02. The singular values of such a matrix have no gaps, and a
trained weight's have; so each linear weight also gets a random rank-8 part whose singular values
fall by a fifth each from four times the largest of the noise.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen2Config

from exporter.base.architecture import Architecture, read_architecture
from exporter.base.checkpoint import INDEX_FILE, SINGLE_FILE
from exporter.documents.write_documents import index_text
from exporter.safetensors.header import TensorHeader
from exporter.safetensors.writer import ShardWriter, TensorSpec
from tinylora import save_artifact

STD = 0.02
SPIKES = 8
U_VALUE, RANK, SEED = 32, 2, 42
MEAN_ABS_V = 3e-5  # as in artifacts of real trainings

# hidden, layers, heads, key/value heads, intermediate
_SIDES: Mapping[str, tuple[int, int, int, int, int]] = {
    # Qwen2.5-Coder-3B-Instruct: 252 target modules, 2.77e9 parameters in them, 3.09e9 in all
    "qwen2.5-coder-3b": (2048, 36, 16, 2, 11008),
    # Qwen2.5-0.5B: 168 target modules, 0.358e9 parameters in them, 0.494e9 with the embedding
    "0.36b": (896, 24, 14, 2, 4864),
    # one width for many numbers of layers, small vocabulary
    "narrow": (512, 4, 8, 2, 2816),
    # for trying a script: 14 target modules
    "tiny": (128, 2, 4, 2, 352),
}


def config_of(shape: str, layers: int | None = None) -> Qwen2Config:
    """The published configuration of Qwen2.5-Coder-Instruct with the sides of a shape."""
    hidden, usual_layers, heads, kv_heads, intermediate = _SIDES[shape]
    layers = layers or usual_layers
    is_small = shape in ("tiny", "narrow")
    return Qwen2Config(
        architectures=["Qwen2ForCausalLM"],
        vocab_size=512 if is_small else 151936,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_act="silu",
        max_position_embeddings=32768,
        max_window_layers=layers,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        use_sliding_window=False,
        attention_dropout=0.0,
        bos_token_id=1 if is_small else 151643,
        eos_token_id=2 if is_small else 151645,
        dtype="bfloat16",
    )


def write_base(
    shape: str, directory: Path, shard_bytes: int, layers: int | None = None
) -> Architecture:
    """Write config.json and the shards; returns what the configuration's model consists of."""
    directory.mkdir(parents=True, exist_ok=True)
    config_of(shape, layers).save_pretrained(directory)
    config = json.loads((directory / "config.json").read_text())
    architecture = read_architecture(directory, config)
    shards = list(_shards(architecture, shard_bytes))
    headers: list[TensorHeader] = []
    for number, specs in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        file = SINGLE_FILE if len(shards) == 1 else name
        with ShardWriter(directory / file, specs) as writer:
            for spec in specs:
                writer.write(spec.name, _tensor(spec, architecture))
            writer.finish()
        headers += [TensorHeader(s.name, s.dtype, s.shape or (), file) for s in specs]
    if len(shards) > 1:
        (directory / INDEX_FILE).write_text(index_text(headers))
    return architecture


def write_artifact(path: Path, modules: int, model_id: str) -> None:
    """An artifact of the ``full`` formula, u = 32, r = 2, mean |v| as real ones have."""
    vector = torch.randn(U_VALUE, generator=torch.Generator().manual_seed(SEED))
    save_artifact(
        path,
        global_v=vector * (MEAN_ABS_V / vector.abs().mean()),
        rank=RANK,
        seed=SEED,
        model_id=model_id,
        total_replaced_layers=modules,
        formula="full",
    )


def _shards(architecture: Architecture, limit: int) -> Iterator[list[TensorSpec]]:
    shard: list[TensorSpec] = []
    for name, shape in architecture.parameters.items():
        spec = TensorSpec(name, "BF16", shape)
        if shard and sum(s.max_bytes for s in shard) + spec.max_bytes > limit:
            yield shard
            shard = []
        shard.append(spec)
    yield shard


def _tensor(spec: TensorSpec, architecture: Architecture) -> Tensor:
    assert spec.shape is not None
    if "norm" in spec.name:
        return torch.ones(spec.shape, dtype=torch.bfloat16)
    seed = int.from_bytes(hashlib.sha256(spec.name.encode()).digest()[:8], "little")
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(spec.shape, generator=generator).mul_(STD)
    if spec.name.removesuffix(".weight") in architecture.targets:
        out, into = spec.shape
        largest = STD * (math.sqrt(out) + math.sqrt(into))
        sizes = 4 * largest * 0.8 ** torch.arange(SPIKES)
        left = torch.randn(out, SPIKES, generator=generator) / math.sqrt(out)
        right = torch.randn(SPIKES, into, generator=generator) / math.sqrt(into)
        weight.addmm_(left * sizes, right)
    return weight.to(torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=tuple(_SIDES), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shard-bytes", type=int, default=5_000_000_000)
    args = parser.parse_args()
    architecture = write_base(args.shape, args.out / "base", args.shard_bytes)
    targets = [architecture.parameters[f"{name}.weight"] for name in architecture.targets]
    write_artifact(args.out / "tiny_lora_v.pt", len(targets), f"random/{args.shape}")
    linear = sum(out * into for out, into in targets)
    total = sum(torch.Size(shape).numel() for shape in architecture.parameters.values())
    print(f"{args.out}: {len(targets)} target modules of {linear / 1e9:.4f}e9 parameters, ", end="")
    print(f"{total / 1e9:.4f}e9 in all")


if __name__ == "__main__":
    main()
