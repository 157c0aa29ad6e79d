"""Factors and the restored forward pass, each beside its rival or its limit.

    python -m benchmarks.kernels [--quick]

Writes results/bench/kernels.md.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from benchmarks.measure import Row, alternate, markdown
from tinylora import exact_factors, fast_factors
from tinylora.inject import TinyLoRAGlobalParams, TinyLoRALinear

Shape = tuple[int, int]


def trained_like(shape: Shape) -> torch.Tensor:
    """Noise with a few leading directions, as trained weights have; bf16."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, 4, generator=generator) for side in shape)
    spikes = left * torch.tensor([3.0, 2.0, 1.2, 0.7]) @ right.T
    return ((torch.randn(shape, generator=generator) + spikes) * 0.02).to(torch.bfloat16)


def factor_rows(shape: Shape, rounds: int) -> list[Row]:
    W = trained_like(shape).float()
    ways = {
        "exact: full gesdd, as the trainer": lambda: exact_factors(W, 2),
        "fast: block Krylov": lambda: fast_factors(W, 2),
    }
    return alternate(f"factors {shape[0]}×{shape[1]}", ways, rounds)


def forward_rows(shape: Shape, tokens: int, rounds: int) -> list[Row]:
    """One linear layer: alone, with the rank-r update, with ΔW formed in every forward."""
    W = trained_like(shape)
    layer = nn.Linear(shape[1], shape[0], bias=False)
    layer.weight.data.copy_(W.float())
    params = TinyLoRAGlobalParams(32)
    params.global_v.data.fill_(1e-3)
    P = torch.randn(32, 2, 2, generator=torch.Generator().manual_seed(2))
    factors = fast_factors(W.float(), 2)
    restored = TinyLoRALinear(layer, params, factors, P, "full")
    x = torch.randn(tokens, shape[1])

    def upstream() -> torch.Tensor:
        return layer(x) + x @ restored.delta().T

    ways = {
        "base layer (limit)": lambda: layer(x),
        "restored, rank-r": lambda: restored(x),
        "restored, ΔW formed as upstream does": upstream,
    }
    with torch.inference_mode():
        return alternate(f"forward {shape[0]}×{shape[1]}, {tokens} token(s)", ways, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("results/bench/kernels.md"))
    args = parser.parse_args()
    shapes = [(256, 512)] if args.quick else [(2048, 2048), (11008, 2048), (2048, 11008)]
    rows: list[Row] = []
    for shape in shapes:
        rows += factor_rows(shape, rounds=2)
        for tokens in (1, 16):
            rows += forward_rows(shape, tokens, rounds=20)
    command = "python -m benchmarks.kernels" + (" --quick" if args.quick else "")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(markdown("Kernels on the CPU", command, rows))
    print(args.out.read_text())


if __name__ == "__main__":
    main()
