"""Merging into 4 bits beside PEFT

    python -m benchmarks.random_base --shape 0.36b --out DIR
    python -m benchmarks.beside_peft --model DIR

Each side is a process of its own, in turn, watched from outside, with the same number of threads.

PEFT: load the base in 4 bits (nf4, double quantization), attach the LoRA, ``merge_and_unload``,
save. The LoRA is this project's ``lora`` export of the artifact, so both sides add the same delta.
Ours: ``tinylora-export merge --format nf4``, with factors stored, and with ``--requantize
recompute``, which does the arithmetic that PEFT does; it also measures each module, reopens and
hashes what it wrote, and hashes the base. Both are also given a base that is 4-bit already.

Peaks of memory; private: ``RssAnon``, resident: with pages of mapped files.
"""

import shutil
import sys
from pathlib import Path

from benchmarks.harness import Usage, merge, parser, usage_table, watch, write_page


def run(model: Path, base: Path, rounds: int) -> dict[str, list[Usage]]:
    """All sides on one base, once a round, in turn; outputs are removed."""
    out = model / "out"
    nf4 = merge(model / "tiny_lora_v.pt", base, out, "--format", "nf4")
    sides = {
        "ours": nf4,
        "ours, recompute": [*nf4, "--requantize", "recompute"],
        "PEFT": peft_merge(base, model / "lora", out),
    }
    found: dict[str, list[Usage]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, command in sides.items():
            shutil.rmtree(out, ignore_errors=True)
            found[name].append(watch(command))
    shutil.rmtree(out)
    return found


def peft_merge(base: Path, adapter: Path, out: Path, bits: int = 4) -> list[str]:
    """PEFT's side, as a command."""
    call = "import sys; from benchmarks.beside_peft import with_peft; with_peft(*sys.argv[1:])"
    return [sys.executable, "-c", call, *map(str, (base, adapter, out, bits))]


def with_peft(base: str, adapter: str, out: str, bits: str) -> None:
    """PEFT's side, in a process of its own."""
    import torch
    from peft import PeftModel
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    from tinylora.models.pretrained import trainer_nf4

    options = {"quantization_config": trainer_nf4()} if bits == "4" else {}
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, device_map="cpu", **options
    )
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    # transformers 5 cannot save every model that it has loaded; this is what it would write
    Path(out).mkdir(parents=True, exist_ok=True)
    tied = set(merged.all_tied_weights_keys)
    state = {n: t.contiguous() for n, t in merged.state_dict().items() if n not in tied}
    save_file(state, Path(out) / "model.safetensors", metadata={"format": "pt"})
    merged.config.save_pretrained(out)


def main() -> None:
    options = parser(__doc__, "scale/beside_peft.md")
    options.add_argument("--model", type=Path, required=True, help="made by benchmarks.random_base")
    args = options.parse_args()
    model = args.model.resolve()
    artifact = model / "tiny_lora_v.pt"
    for name, format_ in (("lora", "lora"), ("base-4bit", "nf4")):  # no code of that base moves
        if not (model / name).is_dir():
            watch(merge(artifact, model / "base", model / name, "--format", format_))
    parts = []
    for title, base in (("16-bit base", "base"), ("4-bit base", "base-4bit")):
        parts += [f"## {title}", usage_table(run(model, model / base, args.rounds), "PEFT")]
    write_page(args.out, __doc__, *parts)


if __name__ == "__main__":
    main()
