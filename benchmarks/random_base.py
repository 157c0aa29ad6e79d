"""A random-weight Qwen2 checkpoint of a real shape, and an artifact that fits it.

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR

writes ``DIR/base`` (config.json and sharded bf16 safetensors, no tokenizer) and, when that is
whole, ``DIR/tiny_lora_v.pt``. Each tensor has a seed of its own.

Weights are normal numbers of size 0.02. The singular values of such a matrix have no gaps, and a
trained weight's have; so each linear weight also gets a random rank-8 part whose singular values
fall by a fifth each from four times the largest of the noise.
"""

import argparse
import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from tinylora import LowRankDelta, save_artifact


def trained_like(shape: tuple[int, int], seed: int = 0, device: str = "cpu") -> Tensor:
    """Noise with a few leading directions, as trained weights have; bf16 ``[out, in]``."""
    generator = torch.Generator(device).manual_seed(seed)
    left, right = (torch.randn(side, 4, generator=generator, device=device) for side in shape)
    spikes = left * torch.tensor([3.0, 2.0, 1.2, 0.7], device=device) @ right.T
    noise = torch.randn(shape, generator=generator, device=device)
    return ((noise + spikes) * 0.02).to(torch.bfloat16)


def delta_of_size(shape: tuple[int, int], size: float, device: str = "cpu") -> LowRankDelta:
    """A delta of rank 2 whose entries are about ``size``, with float32 numerics."""
    generator = torch.Generator(device).manual_seed(1)
    left, right = (torch.randn(side, 2, generator=generator, device=device) for side in shape)
    return LowRankDelta(left * (size / 2**0.5), right.T.contiguous())


STD = 0.02
SPIKES = 8
U_VALUE, RANK, SEED = 32, 2, 42
MEAN_ABS_V = 3e-5  # as in artifacts of real trainings

# hidden, layers, heads, key/value heads, intermediate
_SIDES = {
    # Qwen2.5-Coder-3B-Instruct: 252 target modules, 2.77e9 parameters in them, 3.09e9 in all
    "qwen2.5-coder-3b": (2048, 36, 16, 2, 11008),
    # Qwen2.5-0.5B: 168 target modules, 0.358e9 parameters in them, 0.494e9 with the embedding
    "0.36b": (896, 24, 14, 2, 4864),
    "narrow": (512, 4, 8, 2, 2816),
    "tiny": (128, 2, 4, 2, 352),
}


def write_model(directory: Path, shape: str, layers: int | None = None) -> None:
    """Write base and artifact into a directory.

    The configuration is the published one of Qwen2.5-Coder-Instruct with the sides of a shape.
    """
    hidden, usual_layers, heads, kv_heads, intermediate = _SIDES[shape]
    tiny = shape in ("tiny", "narrow")
    vocabulary, bos, eos = (512, 1, 2) if tiny else (151936, 151643, 151645)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers or usual_layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    targets = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    targets.remove("lm_head")
    weights = {n: _tensor(n, p.shape, targets) for n, p in model.named_parameters()}
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    model.save_pretrained(directory / "base", max_shard_size=1 << 28)
    vector = torch.randn(U_VALUE, generator=torch.Generator().manual_seed(SEED))
    save_artifact(
        directory / "tiny_lora_v.pt",
        global_v=vector * (MEAN_ABS_V / vector.abs().mean()),
        rank=RANK,
        seed=SEED,
        model_id=f"random/{shape}",
        total_replaced_layers=len(targets),
        formula="full",
    )


def _tensor(name: str, shape: torch.Size, targets: list[str]) -> Tensor:
    if "norm" in name:
        return torch.ones(shape, dtype=torch.bfloat16)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator).mul_(STD)
    if name.removesuffix(".weight") in targets:
        out, into = shape
        largest = STD * (math.sqrt(out) + math.sqrt(into))
        sizes = 4 * largest * 0.8 ** torch.arange(SPIKES)
        left = torch.randn(out, SPIKES, generator=generator) / math.sqrt(out)
        right = torch.randn(SPIKES, into, generator=generator) / math.sqrt(into)
        weight.addmm_(left * sizes, right)
    return weight.to(torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=_SIDES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write_model(args.out, args.shape)


if __name__ == "__main__":
    main()
