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
from exporter.compare.prompts import PromptSet, read_prompts
from exporter.compare.retention import Retention, measure_retention
from tinylora import DeltaOptions, FactorStore, load_artifact

BASE, ARTIFACT = Path("demo/base"), Path("demo/tiny_lora_v.pt")
PROMPTS = Path("demo/prompts/heldout.jsonl")
FORMATS, LOSSY = ("nf4-embedded", "fp32"), "nf4"
SIZES, TEXTS = (1e-7, 1e-2), 6


def measure(folder: Path, format: str, prompts: PromptSet, rng: np.random.Generator) -> Retention:
    """An adapter of random direction and size, and how much of it an export kept."""
    direction = rng.standard_normal(load_artifact(ARTIFACT).u)
    size = math.exp(rng.uniform(*np.log(SIZES)))
    artifact = folder / "tiny_lora_v.pt"
    scaled(ARTIFACT, size, artifact, torch.from_numpy(direction).float())
    store = folder / "factors"  # of the base, the same for every adapter
    out = folder / "out"
    export(ExportRequest(BASE, artifact, out, format=format, overwrite=True, factor_store=store))
    texts = rng.choice(len(prompts.prompts), TEXTS, replace=False)
    some = PromptSet(tuple(prompts.prompts[i] for i in texts), prompts.sha256)
    return measure_retention(out, BASE, artifact, DeltaOptions(), some, FactorStore(store))


def said(found: Retention) -> str:
    """What a report says of it."""
    if found.kept is None:
        return "cannot be seen"
    return "loss" if found.kept.loss_seen else "no loss, within a bound"


def main() -> None:
    options = parser(__doc__, "statistics/false_losses.md")
    options.add_argument("--nulls", type=int, default=200)
    args = options.parse_args()
    logging.disable(logging.WARNING)
    rng, prompts = np.random.default_rng(0), read_prompts(PROMPTS, BASE)
    counts = {format: Counter[str]() for format in (*FORMATS, LOSSY)}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.nulls):
            for format in (FORMATS[number % len(FORMATS)], *([LOSSY] if number % 4 == 0 else [])):
                counts[format][said(measure(Path(folder), format, prompts, rng))] += 1
    columns = ("loss", "no loss, within a bound", "cannot be seen")
    rows = [(f, sum(counts[f].values()), *(counts[f][c] for c in columns)) for f in counts]
    write_page(args.out, __doc__, table(("format", "adapters", *columns), rows))


if __name__ == "__main__":
    main()
