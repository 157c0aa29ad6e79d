"""Texts of the demo's suites, and a TinyLoRA vector trained on them on a 4-bit base."""

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from demo.train_adapter import problems
from exporter.compare.float32_model import load_base
from exporter.compare.prompts import TokenPrompt, read_prompts
from tinylora import (
    FactorStore,
    TinyLoRAGlobalParams,
    apply_tiny_lora,
    save_artifact,
)
from tinylora.adapters.options import Formula
from tinylora.models.float32_view import in_float32

U, RANK, SEED = 32, 2, 42
RATE, TEXTS_A_STEP = 1e-3, 2
TEXTS = {"train": 48, "calibration": 16, "choice": 1, "heldout": 4}


def write_texts(folder: Path) -> None:
    """Write the shortest statements of the demo's suites, each with a program that solves it.

    Those of ``heldout.jsonl`` are not trained on.
    """
    lines = Path("demo/prompts/heldout.jsonl").read_text().splitlines()
    heldout = [json.loads(line) for line in lines]
    training = [{"prompt": asked, "completion": program} for asked, program, _ in problems()]
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in TEXTS.items():
        rows = heldout if name == "heldout" else training
        rows.sort(key=lambda row: (len(row["prompt"] + row["completion"]), row["prompt"]))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:count])
        (folder / f"{name}.jsonl").write_text(text)


def train(base: Path, out: Path, formula: Formula, texts: Path, store: Path, steps: int) -> None:
    """Adam on the likelihood of the texts' completions, from v = 0; upstream's file is written.

    The model is the NF4 base as the float32 function of its weights: gradients are exact then, and
    the same on every machine.
    """
    model = load_base(base)
    holder = TinyLoRAGlobalParams(U, dtype=torch.bfloat16)
    torch.nn.init.zeros_(holder.global_v)
    replaced = apply_tiny_lora(
        model, holder, RANK, seed=SEED, formula=formula, store=FactorStore(store)
    )
    in_float32(model).eval().requires_grad_(False)
    vector = holder.global_v.requires_grad_()
    optimizer, prompts = torch.optim.Adam([vector], lr=RATE), read_prompts(texts, base).prompts
    rng = Random(SEED)
    for step in range(steps):
        losses = [nats(model, prompt) for prompt in rng.sample(prompts, TEXTS_A_STEP)]
        loss = torch.cat(losses).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        size = vector.abs().mean()
        print(f"{formula}, step {step + 1}: {loss:.3f} nats a token, mean |v| {size:.2e}")
    about = {"model_id": base.parent.name, "formula": formula, "total_replaced_layers": replaced}
    save_artifact(out, global_v=vector, rank=RANK, seed=SEED, **about)


def nats(model: Any, prompt: TokenPrompt) -> Tensor:
    """Negative log-likelihood of each token of the completion, ``[tokens]``, differentiable."""
    ids = torch.tensor(prompt.token_ids)
    logits = model(ids.unsqueeze(0), use_cache=False).logits[0, prompt.first : -1]
    return torch.nn.functional.cross_entropy(logits, ids[prompt.first + 1 :], reduction="none")
