"""False losses of exports that are exact by construction

Each null is the demo's adapter with a random direction and a random size (mean |v| 1e-7 to 1e-2),
exported in a format that keeps its delta exactly, and measured on some held-out texts as `verify
--prompts` and `run` do. A loss that is reported is false. Beside them stands nf4 with the same
adapters: its loss is real where the delta is smaller than the steps of the codes.
"""

import logging
import math
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import parser, scaled, table, write_page
from exporter import ExportRequest, export
from tinylora import load_artifact

BASE, ARTIFACT = Path("demo/base"), Path("demo/tiny_lora_v.pt")
PROMPTS = Path("demo/prompts/heldout.jsonl")
FORMATS, LOSSY = ("nf4-embedded", "fp32"), "nf4"
SIZES, TEXTS = (1e-7, 1e-2), 6


def said(folder: Path, format: str, texts: list[str], rng: np.random.Generator) -> str:
    """What a report says of an export of an adapter of random direction and size."""
    direction = rng.standard_normal(load_artifact(ARTIFACT).u)
    size = math.exp(rng.uniform(*np.log(SIZES)))
    artifact, some = folder / "tiny_lora_v.pt", folder / "texts.jsonl"
    scaled(ARTIFACT, size, artifact, torch.from_numpy(direction).float())
    chosen = rng.choice(len(texts), TEXTS, replace=False)
    some.write_text("\n".join(texts[i] for i in chosen))
    where = {"out": folder / "out", "factor_store": folder / "factors", "overwrite": True}
    request = ExportRequest(BASE, artifact, format=format, check_prompts=some, **where)
    kept = export(request).retention.kept
    if kept is None:
        return "cannot be seen"
    return "loss" if kept.loss_seen else "no loss, within a bound"


def main() -> None:
    options = parser(__doc__, "statistics/false_losses.md")
    options.add_argument("--nulls", type=int, default=200)
    args = options.parse_args()
    logging.disable(logging.WARNING)
    rng, texts = np.random.default_rng(0), PROMPTS.read_text().splitlines()
    counts = {format: Counter[str]() for format in (*FORMATS, LOSSY)}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.nulls):
            for format in (FORMATS[number % len(FORMATS)], *([LOSSY] if number % 4 == 0 else [])):
                counts[format][said(Path(folder), format, texts, rng)] += 1
    columns = ("loss", "no loss, within a bound", "cannot be seen")
    rows = [(f, sum(counts[f].values()), *(counts[f][c] for c in columns)) for f in counts]
    write_page(args.out, __doc__, table(("format", "adapters", *columns), rows))


if __name__ == "__main__":
    main()
