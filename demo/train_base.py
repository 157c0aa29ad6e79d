"""Trains ``demo/base``: a small Qwen2 that writes C++ for the demo's statements.

Run as ``python -m demo.train_base`` from the repository's root (about a quarter of an hour on two
cores); what it printed stands in ``demo/logs/train_base.txt``. The last steps run with the weights
rounded to NF4 in the forward pass, so that the 4-bit base is no worse than the 16-bit one.
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
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from demo.corpus import pairs
from demo.tokenizer import prompt_text, train_tokenizer

HERE = Path(__file__).parent
IGNORED = -100


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE / "base")
    parser.add_argument("--seed", type=int, default=20260306)
    parser.add_argument("--pairs", type=int, default=58000)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounded-steps", type=int, default=400, help="last steps, with NF4")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--words", type=int, default=1024, help="BPE tokens")
    parser.add_argument("--phrases", type=int, default=422, help="added tokens")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def new_model(options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> Qwen2ForCausalLM:
    """A fresh model; every projection's sizes are multiples of 64."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 32,
        num_key_value_heads=options.hidden // 32,
        initializer_range=0.05,
        intermediate_size=options.hidden * 8 // 3 // 64 * 64,
        max_position_embeddings=1024,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        use_cache=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def encoded(
    tokenizer: PreTrainedTokenizerBase, made: list[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of prompts and of completions with the stop token."""
    prompts = tokenizer([prompt_text(tokenizer, s) for s, _ in made])["input_ids"]
    answers = tokenizer([a for _, a in made])["input_ids"]
    return [(p, [*a, tokenizer.eos_token_id]) for p, a in zip(prompts, answers, strict=True)]


def batches(
    data: list[tuple[list[int], list[int]]], size: int, pad: int, rng: Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded (ids, labels) without end; a batch holds pairs of like length."""
    while True:
        order = sorted(
            rng.sample(range(len(data)), len(data) // 64 * 64),
            key=lambda i: (len(data[i][0]) + len(data[i][1])) // 8,
        )
        groups = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        rng.shuffle(groups)
        for group in groups:
            rows = [data[i] for i in group]
            longest = max(len(p) + len(a) for p, a in rows)
            ids = torch.full((size, longest), pad)
            labels = torch.full((size, longest), IGNORED)
            for r, (p, a) in enumerate(rows):
                ids[r, : len(p) + len(a)] = torch.tensor(p + a)
                labels[r, len(p) : len(p) + len(a)] = torch.tensor(a)
            yield ids, labels


@contextmanager
def rounded(model: Qwen2ForCausalLM, active: bool) -> Iterator[None]:
    """Holds the projections rounded to NF4 inside, and gives the weights back after."""
    if not active:
        yield
        return
    kept = {p: p.detach().clone() for n, p in model.named_parameters() if n.endswith("proj.weight")}
    with torch.no_grad():
        for weight in kept:
            packed, state = quantize_4bit(
                weight.bfloat16(), compress_statistics=True, quant_type="nf4", blocksize=64
            )
            weight.copy_(dequantize_4bit(packed, state))
    yield
    with torch.no_grad():
        for weight, value in kept.items():
            weight.copy_(value)


def answer_loss(model: Qwen2ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean loss of the completions' tokens; logits of no other position are computed."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]), labels[:, 1:][wanted])


def train(
    model: Qwen2ForCausalLM,
    stream: Iterator[tuple[torch.Tensor, torch.Tensor]],
    options: argparse.Namespace,
) -> None:
    """AdamW with warm-up and cosine decay on the completions' likelihood."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    start, mean = time.monotonic(), None
    for step in range(options.steps):
        progress = step / options.steps
        rate = options.rate * min(
            1, (step + 1) / 100, 0.03 + 0.97 * math.cos(progress * math.pi / 2)
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids, labels = next(stream)
        with rounded(model, step >= options.steps - options.rounded_steps):
            loss = answer_loss(model, ids, labels)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {mean:.4f}, {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    options = parse()
    print(json.dumps({k: str(v) for k, v in vars(options).items()}), flush=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    made = pairs(options.pairs, options.seed)
    texts = [part for pair in made[:6000] for part in pair]
    tokenizer = train_tokenizer(texts, options.words, options.phrases)
    model = new_model(options, tokenizer)
    print(f"{model.num_parameters():,} parameters", flush=True)
    stream = batches(
        encoded(tokenizer, made), options.batch, tokenizer.pad_token_id, Random(options.seed)
    )
    model.train()
    train(model, stream, options)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.8,
        max_new_tokens=96,
    )
    model.eval().bfloat16().save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
