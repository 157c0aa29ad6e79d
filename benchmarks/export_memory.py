"""Time and peak memory of exports

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR
    python -m benchmarks.export_memory --model DIR      writes export_memory.md
    python -m benchmarks.export_memory                  writes export_layers.md

Each export is ``tinylora-export merge`` in a process of its own, watched from outside. The first
one of a base computes the factors, the others take them from where they are stored. Private:
``RssAnon``, sampled every 20 ms. Resident: ``VmHWM``, which counts the pages of mapped files too.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import Usage, median, merge, parser, table, watch, write_page
from benchmarks.random_base import write_model

THREADS = os.cpu_count() or 1
LAYERS, SHARD_BYTES = (4, 16, 64), 1 << 28
Found = Mapping[tuple[int, str], Sequence[Usage]]


def large_rows(model: Path) -> Iterator[tuple[object, ...]]:
    """A line for each export."""
    store, out = model / "factors", model / "out"
    for format_ in ("nf4", "nf4", "bf16"):
        before = len(list(store.glob("*.safetensors")))
        usage = watch(merge(model, model / "base", out, "--format", format_), THREADS)
        computed = len(list(store.glob("*.safetensors"))) - before
        written = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
        shutil.rmtree(out)
        yield (format_, computed, f"{usage.seconds:.1f}", f"{written / 1e9:.2f}",
               *(f"{size / 1e6:.0f}" for size in (usage.private, usage.resident)))  # fmt: skip


def measure_layers(
    work: Path, rounds: int, counts: Sequence[int] = LAYERS, shape: str = "narrow"
) -> Found:
    """What every export took, by number of layers and way."""
    found: dict[tuple[int, str], list[Usage]] = {}
    for layers in counts:
        model = work / str(layers)
        write_model(model, shape, layers, SHARD_BYTES)
        for _ in range(rounds):
            shutil.rmtree(model / "factors", ignore_errors=True)
            for way in ("nf4, SVDs", "nf4", "bf16"):
                options = ("--format", way.partition(",")[0])
                usage = watch(merge(model, model / "base", model / "out", *options), THREADS)
                found.setdefault((layers, way), []).append(usage)
        shutil.rmtree(model)
    return found


def layers_table(found: Found) -> str:
    """Median peaks and their ratios to those of the fewest layers."""
    fewest = min(layers for layers, _ in found)
    rows, ratios = [], []
    for (layers, way), usages in found.items():
        cells: list[object] = [layers, way, f"{median(usages, 'seconds'):.1f}"]
        for part in ("private", "resident"):
            peak = median(usages, part)
            ratios.append(peak / median(found[fewest, way], part))
            cells += [f"{peak / 1e6:.0f}", f"{ratios[-1]:.3f}"]
        rows.append([*cells, " ".join(f"{usage.private / 1e6:.0f}" for usage in usages)])
    columns = ("layers", "export", "s", "private MB", "of the fewest", "resident MB",
               "of the fewest", "every private MB")  # fmt: skip
    return f"{table(columns, rows)}\nAt most {max(ratios):.3f} × the fewest layers' peak."


def main() -> None:
    options = parser(__doc__, "scale")
    options.add_argument("--model", type=Path, help="made by benchmarks.random_base")
    args = options.parse_args()
    if args.model is None:
        with tempfile.TemporaryDirectory(prefix="export-layers-") as work:
            found = measure_layers(Path(work), args.rounds)
        about = (
            "16-bit bases of one width (hidden size 512, intermediate size 2816). As a peak "
            "depends on which modules meet, the median of some rounds counts."
        )
        write_page(args.out / "export_layers.md", __doc__, about, layers_table(found))
        return
    columns = ("format", "factors computed", "wall s", "written GB", "private MB", "resident MB")
    rows = large_rows(args.model.resolve())
    write_page(args.out / "export_memory.md", __doc__, table(columns, rows))


if __name__ == "__main__":
    main()
