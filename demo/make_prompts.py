"""Writes ``demo/prompts``: chats with the restored model, for measures token by token.

Run as ``python -m demo.make_prompts`` from the repository's root. ``calibration.jsonl`` has
problems of the training suite, ``heldout.jsonl`` problems that no training touched; the completions
are the restored model's greedy ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import torch
from transformers import AutoTokenizer

from demo.tokenizer import prompt_text
from demo.train_adapter import four_bit_base
from tinylora import load_artifact, restore

HERE = Path(__file__).parent
COUNT = 96
SPLITS = {"calibration": "train", "heldout": "heldout"}


def statements(split: str) -> list[str]:
    """``COUNT`` statements of a suite, drawn with a fixed seed."""
    rows = (HERE / "suite" / split / "problems.jsonl").read_text(encoding="utf-8").splitlines()
    return Random(0).sample([json.loads(row)["statement"] for row in rows], COUNT)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(HERE / "base")
    model = four_bit_base(HERE / "base")
    restore(model, load_artifact(HERE / "tiny_lora_v.pt"))
    (HERE / "prompts").mkdir(exist_ok=True)
    for name, split in SPLITS.items():
        rows = []
        for statement in statements(split):
            ids = torch.tensor([tokenizer(prompt_text(tokenizer, statement))["input_ids"]])
            made = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=128
            )
            completion = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
            rows.append({"prompt": statement, "completion": completion})
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (HERE / "prompts" / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{name}: {len(rows)} chats")


if __name__ == "__main__":
    main()
