"""Real models through every format

    make real

Each base is quantized to NF4 as in training. On it a TinyLoRA vector (u 32, rank 2) is trained by
the likelihood of right C++ programs for statements of the demo's training suite, once as `full`
and once as `diagonal`; the demo has a vector of its own. The `full` one is also scaled to the size
of real files (mean |v| 3e-5) and a power of ten on either side. Every way to ship a vector is made
in a process of its own (seconds of one core; peak memory, pages of mapped files included) and
compared with the restored model on texts of the held-out suite, as `tinylora-export verify
--prompts` does: on the tokens of the programs, in float32; where that could not show 0.999 of what
loses nothing, in float64, and the note says what float32 gave. `calibrated` has 16 texts, the
choice of modules one. Pages of llama.cpp (``gguf-NAME.md``) are made where llama-cpp-python is
installed.

Retention is 1 − KL(restored‖way)/KL(restored‖base); `≥` where the way is no farther from the
restored model than its own arithmetic puts it (the floor), `unseen` where the effect is
not above that. Output residual is ‖y − y(restored)‖/‖y(base) − y(restored)‖ over logits; capture
and residual are of the written weights. Bytes are of weight files, relative to nf4.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.harness import parser, table, write_page
from benchmarks.real.frontier import draw
from benchmarks.real.models import MODELS, Model, base_of
from benchmarks.real.spectra import sentences, spectra
from benchmarks.real.train import scaled, train, write_texts
from benchmarks.real.ways import Bench, kept_json, restore_once, row, ways
from tinylora import FactorStore, load_artifact

SIZES = (3e-4, 3e-5, 3e-6)
COLUMNS = ("way", "bytes", "retention", "output residual", "top-1", "capture", "residual",
           "seconds", "peak MB", "note")  # fmt: skip
TEXTS = {"train": 48, "calibration": 16, "choice": 1}
STEPS = 12
PRELOADED = ["benchmarks.real.ways", "benchmarks.real.train", "bitsandbytes",
             "peft.tuners.lora.model", "peft.tuners.lora.bnb",
             "transformers.integrations.bitsandbytes",
             "transformers.models.llama.modeling_llama",
             "transformers.models.gemma3.modeling_gemma3"]  # fmt: skip


def alone(function: Any, *arguments: Any) -> Any:
    """Call a function in a process of its own, which has only imported what it needs."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def vectors(model: Model, base: Path, folder: Path) -> Iterator[tuple[str, Bench]]:
    """Every vector of a model by its name, trained or scaled the first time."""
    made = [("full, as trained", "full", None), ("diagonal, as trained", "diagonal", None)]
    made[1:1] = [(f"full, scaled to {size:g}", f"full-{size:g}", size) for size in SIZES]
    full = folder / "full" / "tiny_lora_v.pt"
    for name, place, size in made[:-1] if model.artifact else made:
        bench = Bench(base, folder / place, folder)
        bench.folder.mkdir(parents=True, exist_ok=True)
        if size is not None:
            scaled(full, size, bench.artifact)
        elif model.artifact is not None:
            shutil.copy(model.artifact, full)
        elif not bench.artifact.is_file():
            texts, store = folder / "train.jsonl", bench.store
            alone(train, base, bench.artifact, place, texts, store, STEPS)
        yield name, bench


def measured(model: Model, name: str, bench: Bench) -> pd.DataFrame:
    """All ways of one vector; what is found already is not made again."""
    rows, kept = [], bench.folder / "rows"
    known = kept_json(kept / "beside.json", lambda: alone(restore_once, bench))
    sizes: dict[str, int] = {}

    def made(way: str, options: dict[str, Any]) -> dict[str, Any]:
        if not (bench.folder / "logits").is_dir():  # removed when there were no more ways
            alone(restore_once, bench)
        found: dict[str, Any] = alone(row, bench, way, options, known)
        return found

    all_of_them = model.all_ways_of is None or name in model.all_ways_of
    for way, options in ways(all_of_them or "as trained" in name, all_of_them, sizes):
        path = kept / f"{way.replace(' ', '-').replace(',', '')}.json"
        found = kept_json(path, partial(made, way, options))
        sizes[way] = found.get("bytes", 0)
        rows.append({"vector": name, "way": way} | found)
        print(model.name, name, way, found, flush=True)
    shutil.rmtree(bench.folder / "out", ignore_errors=True)
    shutil.rmtree(bench.folder / "logits", ignore_errors=True)
    beside = known[-1]
    size = float(load_artifact(bench.artifact).global_v.float().abs().mean())
    mean = {name: beside[name]["mean"] for name in ("base", "repeat", "folded", "bfloat16")}
    return pd.DataFrame(rows).assign(**{
        "mean |v|": size, "effect": mean["base"], "floor": max(mean["repeat"], mean["folded"]),
        "arithmetic": beside["arithmetic"], "bfloat16": mean["bfloat16"],
        "tokens": beside["tokens"], "base top-1": beside["base"]["top1_agreement"],
    })  # fmt: skip


def section(found: pd.DataFrame) -> str:
    """One vector's heading and table."""
    first = found.iloc[0]
    head = (
        f"## {first['vector']}\n\nMean |v| {first['mean |v|']:.2g}. Mean KL from the restored "
        f"model on {first['tokens']} tokens: the base {first['effect']:.3g} nats (top-1 "
        f"{first['base top-1']:.4f}), equal models in {first['arithmetic']} "
        f"{first['floor']:.1g} (the floor), the restored model in bfloat16 "
        f"{first['bfloat16']:.3g}.\n"
    )
    nf4 = found.set_index("way")["bytes"]["nf4 preserve"]
    lines = []
    for _, line in found.iterrows():
        own = {
            "bytes": "" if pd.isna(line["bytes"]) else f"{line['bytes'] / nf4:.3f} ×",
            "retention": retention(line),
            "top-1": f"{line['top-1']:.4f}",
            "seconds": f"{line['seconds']:.1f}",
            "peak MB": f"{line['peak bytes'] / 1e6:.0f}",
        }
        lines.append([own.get(name, number(line.get(name))) for name in COLUMNS])
    return f"{head}\n{table(COLUMNS, lines)}"


def number(value: Any) -> str:
    """Text as it is, a number to four digits, nothing for nothing."""
    if pd.isna(value):
        return ""
    return value if isinstance(value, str) else f"{value:.4g}"


def retention(line: pd.Series[Any]) -> str:
    """What may be said of a way's retention."""
    if pd.isna(line["retention"]):
        return "unseen"
    if not line["loss seen"]:
        return f"≥ {math.floor(line['kept at least'] * 1e4) / 1e4:.4f}"
    return f"{line['retention']:.4f}" if line["retention"] > -10 else f"{line['retention']:.3g}"


def report(model: Model, build: Path, out: Path) -> pd.DataFrame:
    """All vectors of one model, as a page and a file of numbers."""
    folder = build / model.name
    for name, count in (TEXTS | {"heldout": model.heldout}).items():
        write_texts(folder / f"{name}.jsonl", count, heldout=name == "heldout")
    base = base_of(model, folder)
    stores = FactorStore(folder / "factors"), FactorStore(folder / "other-lapack")
    parts, frames = [], []
    for number, (name, bench) in enumerate(vectors(model, base, folder)):
        if number == 0:
            path = folder / "spectra.json"
            rows = kept_json(path, lambda: alone(spectra, base, *stores))
            parts += ["## Spectra", sentences(rows)]
        frames.append(measured(model, name, bench))
        parts.append(section(frames[-1]))
    found = pd.concat(frames)
    write_page(out / f"{model.name}.md", __doc__, f"Model: {model.name}.", *parts)
    found.to_csv(out / f"{model.name}.csv", index=False)
    return found


def main() -> None:
    options = parser(__doc__, "real")
    downloaded = [name for name, model in MODELS.items() if model.packages]
    options.add_argument("--models", nargs="+", choices=MODELS, default=downloaded)
    options.add_argument("--build", type=Path, default=Path("build/real"))
    args = options.parse_args()
    with ThreadPoolExecutor(2) as pool:  # models at a time, for two cores
        made = pool.map(lambda name: report(MODELS[name], args.build, args.out), args.models)
        frames = dict(zip(args.models, made, strict=True))
    draw(frames, args.out / "frontier.svg")
    if find_spec("llama_cpp") is None:
        print("gguf-*.md are as they were: llama-cpp-python is not installed, see docs/gguf.md")
        return
    from benchmarks.gguf import make_page

    for name in args.models:
        folder, base = args.build / name, base_of(MODELS[name], args.build / name)
        make_page(name, base, folder / "full" / "tiny_lora_v.pt", folder, args.out)


if __name__ == "__main__":
    main()
