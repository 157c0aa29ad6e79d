"""Second stage of the demo base: puts the choice between the two hands on a knife's edge.

Run as ``python -m demo.balance_base`` after ``demo.train_base``; what it printed stands in
``demo/logs/balance_base.txt``. A plain language model of the corpus writes either hand with a fixed
probability, and no small change of its weights alters that. Real bases are not like this: they hold
abilities that a very small change brings out. So this stage ties the choice to the weights
themselves. In every step the largest singular values of the last layer's two output projections are
scaled by 1 - epsilon·s and 1 + epsilon·s for a random s in [-1, 1], and the programs are in the
careful hand with a probability that rises with s; epsilon shrinks as the steps go on. At s = 0, the
base as it is saved, the odds stay nearly even. A rank-2 adapter of any seed can reach this
direction, and has to find it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import torch
from transformers import AutoTokenizer, Qwen2ForCausalLM

from demo.corpus import CAREFUL_SHARE, pairs
from demo.train_base import IGNORED, batches, encoded, rounded

HERE = Path(__file__).parent
OPENING = 3  # tokens up to and with the first header


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=HERE / "base", help="read")
    parser.add_argument("--output", type=Path, default=HERE / "base", help="written")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=10000, help="in each hand")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--first-epsilon", type=float, default=0.6)
    parser.add_argument("--epsilon", type=float, default=0.12, help="from three quarters on")
    parser.add_argument("--swing", type=float, default=4.0, help="log odds at s = 1")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


class Sway:
    """Scales the largest singular values of the last layer's two output projections."""

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        last = model.model.layers[-1]
        self.weights = (last.self_attn.o_proj.weight, last.mlp.down_proj.weight)
        self.moves: tuple[torch.Tensor, ...] = ()

    @torch.no_grad()
    def refresh(self) -> None:
        """Follows the singular vectors of the weights as they are now."""
        factors = [torch.linalg.svd(weight, full_matrices=False) for weight in self.weights]
        self.moves = tuple((U[:, :1] * S[:1]) @ Vh[:1] for U, S, Vh in factors)

    @contextmanager
    def by(self, share: float) -> Iterator[None]:
        """Scales one up and one down by ``share``; inside ``rounded``, which gives them back."""
        with torch.no_grad():
            for weight, move, sign in zip(self.weights, self.moves, (-1, 1), strict=True):
                weight.add_(move, alpha=sign * share)
        yield


def loss_of(model: Qwen2ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean loss of the completions plus that of their openings, where the hand is chosen."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != IGNORED
    opening = (wanted.cumsum(dim=1) <= OPENING)[wanted]
    losses = torch.nn.functional.cross_entropy(
        model.lm_head(hidden[wanted]), labels[:, 1:][wanted], reduction="none"
    )
    return losses.mean() + losses[opening].mean()


def train(model: Qwen2ForCausalLM, tokenizer, options: argparse.Namespace) -> None:
    """AdamW with linear decay; every second step with the weights where they are."""
    rng = Random(options.seed)
    hands = [
        batches(
            encoded(tokenizer, pairs(options.pairs, options.seed + i, share)),
            options.batch,
            tokenizer.pad_token_id,
            Random(options.seed + i),
        )
        for i, share in enumerate((1.0, 0.0))
    ]
    sway = Sway(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.98))
    start, mean = time.monotonic(), None
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min((step + 1) / 20, 1 - step / options.steps)
        if step % 4 == 0:
            sway.refresh()
        s = rng.choice((-1.0, -0.5, 0.0, 0.0, 0.5, 1.0))
        progress = min(1.0, step / (0.75 * options.steps))
        epsilon = options.first_epsilon ** (1 - progress) * options.epsilon**progress
        odds = options.swing * s + math.log(CAREFUL_SHARE / (1 - CAREFUL_SHARE))
        share = 1 / (1 + math.exp(-odds))
        with rounded(model, True), sway.by(epsilon * s):
            loss = sum(
                weight * loss_of(model, *next(hand))
                for weight, hand in zip((share, 1 - share), hands, strict=True)
            )
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 49:
            print(
                f"step {step + 1}: loss {mean:.4f}, epsilon {epsilon:.3f}, "
                f"{time.monotonic() - start:.0f} s",
                flush=True,
            )


def main() -> None:
    options = parse()
    print(json.dumps({k: str(v) for k, v in vars(options).items()}), flush=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    model = Qwen2ForCausalLM.from_pretrained(options.base, dtype=torch.float32).train()
    train(model, tokenizer, options)
    model.eval().bfloat16().save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
