"""Time and peak memory of exports

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR
    python -m benchmarks.export_memory --model DIR      writes export_memory.md
    python -m benchmarks.export_memory                  writes export_layers.md

Without a model, of 16-bit bases of one width (hidden size 512, intermediate size 2816) and 4, 16
and 64 layers, each beside the fewest. Each export is ``tinylora-export merge`` in a process of its
own, watched from outside: one computes the factors, the others take them from where they are
stored. Private: ``RssAnon``, sampled every 20 ms. Resident: ``VmHWM``, which counts the pages of
mapped files too. As a peak depends on which modules meet, the median of all rounds counts.
"""

import shutil
import tempfile
from pathlib import Path

from benchmarks.harness import Usage, merge, parser, usage_table, watch, write_page
from benchmarks.random_base import write_model

LAYERS = (4, 16, 64)
WAYS = {"nf4, SVDs": "nf4", "nf4": "nf4", "bf16": "bf16"}


def measure(model: Path, rounds: int) -> dict[str, list[Usage]]:
    """What every export of a base took; the first of a round computes the factors."""
    found: dict[str, list[Usage]] = {way: [] for way in WAYS}
    artifact, base, out = model / "tiny_lora_v.pt", model / "base", model / "out"
    for _ in range(rounds):
        shutil.rmtree(model / "factors", ignore_errors=True)
        for way, format_ in WAYS.items():
            found[way].append(watch(merge(artifact, base, out, "--format", format_)))
            shutil.rmtree(out)
    return found


def main() -> None:
    options = parser(__doc__, "scale")
    options.add_argument("--model", type=Path, help="made by benchmarks.random_base")
    args = options.parse_args()
    if args.model is not None:
        found = measure(args.model.resolve(), args.rounds)
        write_page(args.out / "export_memory.md", __doc__, usage_table(found, "nf4"))
        return
    depths = {}
    for layers in LAYERS:
        with tempfile.TemporaryDirectory(prefix="export-layers-") as folder:
            write_model(Path(folder), "narrow", layers)
            depths[f"{layers} layers"] = measure(Path(folder), args.rounds)
    parts = []
    for way in WAYS:
        usages = {depth: found[way] for depth, found in depths.items()}
        parts += [f"## {way}", usage_table(usages, f"{LAYERS[0]} layers")]
    write_page(args.out / "export_layers.md", __doc__, *parts)


if __name__ == "__main__":
    main()
