"""Merging an adapter into 4 bits: PEFT's way and this project's, in turn, in one run.

    python -m benchmarks.random_base --shape 0.36b --out DIR
    python -m benchmarks.beside_peft --model DIR

Each side is a process of its own, watched from outside, with the same number of threads.

PEFT: load the base in 4 bits (nf4, double quantization), attach the LoRA, ``merge_and_unload``,
save: ``benchmarks/peft_merge.py``. The LoRA is this project's ``lora`` export of the artifact, so
both sides add the same delta.
Ours: ``tinylora-export merge --format nf4``, with factors stored, and with ``--requantize
recompute``, which does the arithmetic that PEFT does; it also measures each module, reopens and
hashes what it wrote, and hashes the base.

Both are also given a base that is 4-bit already. Writes results/scale/beside_peft.md.
"""

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.export_memory import CLI, LIBRARIES
from benchmarks.measure import machine
from benchmarks.watch import Usage, baseline, watch

PEFT_LIBRARIES = ("peft", "bitsandbytes", "transformers.models.qwen2.modeling_qwen2")
OURS, RECOMPUTE, PEFT = "ours", "ours, recompute", "PEFT"


@dataclass(frozen=True)
class Side:
    """One way to merge: its name, its command, and where that writes."""

    name: str
    command: tuple[str, ...]
    out: Path


def ours(model: Path, base: Path, *options: str, out: Path) -> tuple[str, ...]:
    """``tinylora-export merge`` of the model's artifact."""
    paths = ("--base", base, "--artifact", model / "tiny_lora_v.pt", "--out", out)
    store = ("--factor-store", model / "factors", "--overwrite")
    return (sys.executable, "-c", CLI, "merge", *map(str, paths + store), *options)


def sides(model: Path, base: Path) -> list[Side]:
    """The rivals on one base."""
    out, peft_out = model / "out-ours", model / "out-peft"
    recompute = ("--format", "nf4", "--requantize", "recompute")
    module = (sys.executable, "-m", "benchmarks.peft_merge")
    paths = ("--base", base, "--adapter", model / "lora", "--out", peft_out)
    return [
        Side(OURS, ours(model, base, "--format", "nf4", out=out), out),
        Side(RECOMPUTE, ours(model, base, *recompute, out=out), out),
        Side(PEFT, (*module, *map(str, paths)), peft_out),
    ]


def prepare(model: Path, threads: int) -> Path:
    """Fill the store, make the LoRA and a 4-bit base (the delta moves no code of it)."""
    for name, format_ in (("lora", "lora"), ("base-4bit", "nf4")):
        if not (model / name).is_dir():
            options = ("--format", format_)
            watch(ours(model, model / "base", *options, out=model / name), threads)
    return model / "base-4bit"


def alternate(rivals: Sequence[Side], rounds: int, threads: int) -> dict[str, list[Usage]]:
    """Run each side once a round, in turn; outputs are removed."""
    found: dict[str, list[Usage]] = {side.name: [] for side in rivals}
    for _ in range(rounds):
        for side in rivals:
            shutil.rmtree(side.out, ignore_errors=True)
            found[side.name].append(watch(side.command, threads))
            shutil.rmtree(side.out)
    return found


def report(title: str, found: dict[str, list[Usage]], libraries: dict[str, Usage]) -> str:
    """A Markdown table of one base, and how the sides compare."""
    lines = [
        f"## {title}",
        "",
        "| side | median s | all s | private MB | resident MB | private beyond libraries MB |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for name, usages in found.items():
        beyond = max(u.anon for u in usages) - libraries[name].anon
        cells = [
            name,
            f"{_seconds(usages):.2f}",
            " ".join(f"{u.seconds:.2f}" for u in usages),
            f"{max(u.anon for u in usages) / 1e6:.0f}",
            f"{max(u.rss for u in usages) / 1e6:.0f}",
            f"{beyond / 1e6:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    peft = found[PEFT]
    for name in (OURS, RECOMPUTE):
        usages = found[name]
        anon, rss = (
            max(getattr(u, part) for u in usages) / max(getattr(u, part) for u in peft)
            for part in ("anon", "rss")
        )
        beyond = {
            part: (max(getattr(u, part) for u in usages) - getattr(libraries[name], part))
            / (max(getattr(u, part) for u in peft) - getattr(libraries[PEFT], part))
            for part in ("anon", "rss")
        }
        lines.append(
            f"- {name} / PEFT: wall {_seconds(usages) / _seconds(peft):.2f}, private memory "
            f"{anon:.2f}, resident {rss:.2f}; beyond the libraries: private "
            f"{beyond['anon']:.2f}, resident {beyond['rss']:.2f}"
        )
    return "\n".join([*lines, ""])


def _seconds(usages: Sequence[Usage]) -> float:
    return statistics.median(usage.seconds for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="made by benchmarks.random_base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("results/scale/beside_peft.md"))
    args = parser.parse_args()
    model = args.model.resolve()
    base_4bit = prepare(model, args.threads)
    own = baseline(LIBRARIES, args.threads)
    libraries = {OURS: own, RECOMPUTE: own, PEFT: baseline(PEFT_LIBRARIES, args.threads)}
    parts = [
        "# Merging into 4 bits beside PEFT",
        "",
        f"`python -m benchmarks.beside_peft --model {model.name} --rounds {args.rounds} "
        f"--threads {args.threads}` on {machine()}; {args.threads} thread(s) a process. Memory is "
        "the largest of all rounds; private: `RssAnon`, resident: with pages of mapped files. "
        f"Interpreter and libraries alone, private: ours {libraries[OURS].anon / 1e6:.0f} MB "
        f"({libraries[OURS].seconds:.1f} s to import), PEFT {libraries[PEFT].anon / 1e6:.0f} MB "
        f"({libraries[PEFT].seconds:.1f} s).",
        "",
    ]
    for title, base in (("16-bit base", model / "base"), ("4-bit base", base_4bit)):
        found = alternate(sides(model, base), args.rounds, args.threads)
        parts.append(report(title, found, libraries))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(parts))
    print(args.out.read_text())


if __name__ == "__main__":
    main()
