"""Trains ``demo/tiny_lora_v.pt``: 32 numbers on the 4-bit demo base, and nothing else.

Run as ``python -m demo.train_adapter`` from the repository's root; what it printed stands in
``demo/logs/train_adapter.txt``. Two stages on the training suite, neither of which reads a
held-out problem: the likelihood of right programs, then policy gradient (REINFORCE with the batch's
mean as the baseline) on the judge's verdicts. Both pull v towards zero, because a delta that a
small v makes is the case in which the export formats differ.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.corpus import careful
from demo.families import FAMILIES
from demo.programs import compiled, output_of, same_lines
from demo.split import only_heldout, train_variants
from demo.tokenizer import prompt_text
from demo.train_base import IGNORED
from tinylora import QuantizedWeight, load_artifact, restore, save_artifact, target_modules

HERE = Path(__file__).parent
MODEL_ID = "tinylora-demo/qwen2-mini"
PROGRAM = re.compile(r"```cpp\n(.*?)```", re.DOTALL)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=HERE / "base")
    parser.add_argument("--output", type=Path, default=HERE / "tiny_lora_v.pt")
    parser.add_argument("--u", type=int, default=32)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--likelihood-steps", type=int, default=80)
    parser.add_argument("--reward-steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--reward-rate", type=float, default=2e-4)
    parser.add_argument("--decay", type=float, default=80.0, help="weight of |v|^2 in the loss")
    parser.add_argument("--temperature", type=float, default=0.8)
    return parser.parse_args()


def four_bit_base(path: Path) -> nn.Module:
    """The base with every projection at its NF4 value, in float32 so that gradients are exact."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
    for _, module in target_modules(model):
        module.weight.data = QuantizedWeight.quantize(module.weight.data).dequantize()
    return model.requires_grad_(False).float().eval()


def attach(model: nn.Module, options: argparse.Namespace) -> nn.Parameter:
    """Puts an adapter of zeros on the model; returns its vector, in float32 while it trains."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write(options, torch.zeros(options.u), model)
    holder = restore(model, load_artifact(options.output)).global_params
    holder.global_v = nn.Parameter(torch.zeros(options.u))
    return holder.global_v


def write(options: argparse.Namespace, vector: Tensor, model: nn.Module) -> None:
    """Writes the artifact in upstream's format."""
    save_artifact(
        options.output,
        global_v=vector.detach().bfloat16(),
        rank=options.rank,
        seed=options.seed,
        model_id=MODEL_ID,
        formula="full",
        saved_device="cuda:0",
        total_replaced_layers=model.config.num_hidden_layers * 7,
    )


def problems() -> list[tuple[str, str, dict]]:
    """The training suite: (statement, right completion, row)."""
    variants = {f.key: iter(train_variants(f)) for f in FAMILIES if not only_heldout(f)}
    families = {f.key: f for f in FAMILIES}
    rows = map(json.loads, (HERE / "suite/train/problems.jsonl").read_text().splitlines())
    return [
        (row["statement"], careful(families[row["family"]], next(variants[row["family"]])), row)
        for row in rows
    ]


def padded(prompts: list[list[int]], answers: list[list[int]], pad: int) -> dict[str, Tensor]:
    """Left-padded prompts followed by right-padded answers, with labels on the answers."""
    before, after = max(map(len, prompts)), max(map(len, answers))
    shape = (len(prompts), before + after)
    ids, mask, labels = torch.full(shape, pad), torch.zeros(shape), torch.full(shape, IGNORED)
    for r, (p, a) in enumerate(zip(prompts, answers, strict=True)):
        ids[r, before - len(p) : before + len(a)] = torch.tensor(p + a)
        mask[r, before - len(p) : before + len(a)] = 1
        labels[r, before : before + len(a)] = torch.tensor(a)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


def log_likelihoods(model: nn.Module, batch: dict[str, Tensor], temperature: float) -> Tensor:
    """Log-probability of each row's answer."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels = batch["labels"][:, 1:]
    losses = nn.functional.cross_entropy(
        (logits[:, :-1] / temperature).transpose(1, 2),
        labels,
        ignore_index=IGNORED,
        reduction="none",
    )
    return -losses.sum(dim=1)


def passes(completion: str, row: dict, folder: Path) -> bool:
    """The judge's verdict on a sampled program; only plain problems are used for rewards."""
    found = PROGRAM.search(completion)
    if not found:
        return False
    try:
        binary = compiled(found[1], folder)
    except subprocess.CalledProcessError:
        return False
    return all(
        same_lines(output_of(binary, t["input"], seconds=1), t["output"]) for t in row["tests"]
    )


def likelihood_stage(model, tokenizer, vector, data, options, rng) -> None:
    """Adam on the likelihood of right programs."""
    optimizer = torch.optim.Adam([vector], lr=options.rate)
    for step in range(options.likelihood_steps):
        chosen = rng.sample(data, options.batch)
        prompts = tokenizer([prompt_text(tokenizer, s) for s, _, _ in chosen])["input_ids"]
        answers = [
            [*ids, tokenizer.eos_token_id]
            for ids in tokenizer([a for _, a, _ in chosen])["input_ids"]
        ]
        found = log_likelihoods(model, padded(prompts, answers, tokenizer.pad_token_id), 1.0)
        (-found.mean() + options.decay * vector.square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 9:
            print(
                f"likelihood step {step + 1}: {-found.mean():.3f} nats a program, "
                f"mean |v| {vector.abs().mean():.2e}",
                flush=True,
            )


def reward_stage(model, tokenizer, vector, data, options, rng, folder: Path) -> None:
    """Policy gradient on the verdicts of sampled programs."""
    optimizer = torch.optim.Adam([vector], lr=options.reward_rate)
    plain = [item for item in data if "tests" in item[2] and "checker" not in item[2]]
    for step in range(options.reward_steps):
        chosen = rng.sample(plain, 2 * options.batch)
        prompts = tokenizer([prompt_text(tokenizer, s) for s, _, _ in chosen])["input_ids"]
        batch = padded(prompts, [[0]] * len(prompts), tokenizer.pad_token_id)
        with torch.no_grad():
            made = model.generate(
                batch["input_ids"][:, :-1],
                attention_mask=batch["attention_mask"][:, :-1],
                do_sample=True,
                temperature=options.temperature,
                top_k=0,
                max_new_tokens=96,
            )
        rows = [ids.tolist() for ids in made[:, batch["input_ids"].shape[1] - 1 :]]
        stop = tokenizer.eos_token_id
        answers = [ids[: ids.index(stop) + 1] if stop in ids else ids for ids in rows]
        with ThreadPoolExecutor(2) as pool:
            rewards = torch.tensor(
                list(
                    pool.map(
                        lambda pair: float(passes(tokenizer.decode(pair[0]), pair[1][2], folder)),
                        zip(answers, chosen, strict=True),
                    )
                )
            )
        found = log_likelihoods(
            model, padded(prompts, answers, tokenizer.pad_token_id), options.temperature
        )
        loss = -((rewards - rewards.mean()) * found).mean()
        (loss + options.decay * vector.square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        print(
            f"reward step {step + 1}: pass rate {rewards.mean():.3f}, "
            f"mean |v| {vector.abs().mean():.2e}",
            flush=True,
        )


def main() -> None:
    options = parse()
    print(json.dumps({k: str(v) for k, v in vars(options).items()}), flush=True)
    torch.manual_seed(options.seed)
    rng = Random(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    model = four_bit_base(options.base)
    vector = attach(model, options)
    data = problems()
    print(f"{len(data)} training problems, {Counter(row['language'] for _, _, row in data)}")
    with tempfile.TemporaryDirectory() as folder:
        likelihood_stage(model, tokenizer, vector, data, options, rng)
        reward_stage(model, tokenizer, vector, data, options, rng, Path(folder))
    write(options, vector, model)
    stored = vector.detach().bfloat16()
    print(f"v: mean |v| {stored.abs().mean():.2e}, largest {stored.abs().max():.2e}")


if __name__ == "__main__":
    main()
