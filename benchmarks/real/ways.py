"""Every way to ship the vectors of a model, each made by a command, and what it keeps."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft import PeftModel

from benchmarks.beside_peft import peft_merge
from benchmarks.harness import kept_json, merge, scaled, watch
from benchmarks.real.models import base_of
from benchmarks.real.spectra import spectra
from benchmarks.real.train import train, write_texts
from exporter.compare.float32_model import load_base, load_exact, restored_model
from exporter.compare.prompts import read_prompts
from exporter.compare.retention import Reference, Retention, beside_restored, computed_in
from tinylora import DeltaOptions, FactorStore, load_artifact
from tinylora.models.float32_view import in_float32
from tinylora.workers import single_threaded

SIZES = (3e-4, 3e-5, 3e-6)
STEPS = 12
EXACT = DeltaOptions(svd="exact")
OTHER_LAPACK = "restored, other LAPACK"
# Where float32 cannot show this much of what loses nothing, models are compared in float64.
SHOWN = 0.999


def measured_model(model: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The spectra of a model's base, and a row for each way of each vector.

    What is in ``folder`` already is not made again.
    """
    write_texts(folder)
    base = base_of(model, folder)
    stores = FactorStore(folder / "factors"), FactorStore(folder / "other-lapack")
    known = kept_json(folder / "spectra.json", partial(spectra, base, *stores))
    rows = []
    for vector, artifact in vectors(base, folder):
        kept = folder / f"{artifact.stem}.json"
        rows += kept_json(kept, partial(measured, folder, base, vector, artifact))
    return known, rows


def vectors(base: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Every vector of a model by its name, trained or scaled the first time."""
    full, diagonal = folder / "full.pt", folder / "diagonal.pt"
    for out in (full, diagonal):
        if not out.is_file():
            train(base, out, out.stem, folder / "train.jsonl", folder / "factors", STEPS)
    yield "full, as trained", full
    for size in SIZES:
        small = folder / f"full-{size:g}.pt"
        scaled(full, size, small)
        yield f"full, scaled to {size:g}", small
    yield "diagonal, as trained", diagonal


def ways(vector: str, folder: Path, sizes: dict[str, int]) -> Iterator[tuple[str, list[str]]]:
    """Every way by name, with the options of an export; ``sizes`` are bytes of ways before it.

    Those that choose by texts run the model often, so not every vector has them.
    """
    yield "lora", ["--format", "lora"]  # PEFT merges it
    for method in ("preserve", "recompute"):
        yield f"nf4 {method}", ["--format", "nf4", "--requantize", method]
    for name in ("nf4-embedded", "bf16", "fp16", "fp32"):
        yield name, ["--format", name]
    yield "PEFT merge, 4 bit", []
    yield "PEFT merge, bf16", []
    if "as trained" in vector:
        by_texts = ["--prompts", str(folder / "calibration.jsonl")]
        yield "nf4 calibrated", ["--format", "nf4", "--requantize", "calibrated", *by_texts]
    if vector == "full, as trained":
        yield "nf4-embedded fp16", ["--format", "nf4-embedded", "--adapter-dtype", "fp16"]
        yield "peft-tinylora", ["--format", "peft-tinylora"]  # PEFT wants the base dequantized
        yield OTHER_LAPACK, []
        room = sizes["nf4 preserve"] + (sizes["bf16"] - sizes["nf4 preserve"]) // 4
        one_text = ["--prompts", str(folder / "choice.jsonl"), "--max-bytes", str(room)]
        yield "nf4-mixed, a quarter", ["--format", "nf4-mixed", *one_text]


def measured(folder: Path, base: Path, vector: str, artifact: Path) -> list[dict[str, Any]]:
    """Make every way of a vector and compare it with the restored model, one row each."""
    prompts = read_prompts(folder / "heldout.jsonl", base)
    build = partial(restored_model, base, artifact, EXACT, store=FactorStore(folder / "factors"))
    beside, rows, sizes = [], [], {}
    with single_threaded(), TemporaryDirectory(dir=folder) as scratch:
        for arithmetic in ("float32", "float64"):
            (kept := Path(scratch) / arithmetic).mkdir()
            reference = Reference(kept, prompts.prompts)
            found = beside_restored(reference, build, prompts, float64=arithmetic == "float64")
            beside.append((reference, found))
            lossless = replace(found, export=found.folded).kept
            if lossless is not None and lossless.at_least >= SHOWN:
                break
        about = {
            "mean |v|": float(load_artifact(artifact).global_v.float().abs().mean()),
            "effect": found.base.mean,
            "floor": found.floor,
            "arithmetic": found.arithmetic,
            "bfloat16": found.bfloat16.mean,
            "tokens": found.tokens,
            "base top-1": found.base.top1_agreement,
        }
        for way, options in ways(vector, folder, sizes):
            known, model = shipped(folder, base, artifact, way, options)
            sizes[way] = known.get("bytes", 0)
            row = {"vector": vector, "way": way} | known | compared(model, beside)
            row["note"] = "; ".join(filter(None, (known.get("note"), row["note"])))
            rows.append(row | about)
            print(folder.name, row, flush=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    return rows


def compared(model: Any, beside: list[tuple[Reference, Retention]]) -> dict[str, Any]:
    """A model beside the restored one, in the finest arithmetic; a note says what float32 shows."""
    *coarse, found = (
        replace(known, export=reference.distance(computed_in(known.arithmetic, model)))
        for reference, known in beside
    )
    kept = found.kept
    return {
        "retention": kept and kept.retention,
        "kept at least": kept and kept.at_least,
        "loss seen": kept and kept.loss_seen,
        "output residual": found.output_residual,
        "mean KL": found.export.mean,
        "top-1": found.export.top1_agreement,
        "note": _in_float32(coarse[0]) if coarse else "",
    }


def _in_float32(found: Retention) -> str:
    if found.kept is None:
        return "unseen in float32"
    bound = "" if found.kept.loss_seen else f", at least {found.kept.at_least:.4f}"
    return f"in float32 {found.kept.retention:.4g}{bound}"


def shipped(
    folder: Path, base: Path, artifact: Path, way: str, options: list[str]
) -> tuple[dict[str, Any], Any]:
    """Make a way; what is known of its files and its making, and its model in float32."""
    if way == OTHER_LAPACK:
        store = FactorStore(folder / "other-lapack")
        return {}, in_float32(restored_model(base, artifact, EXACT, store=store)[0]).eval()
    lora = folder / "lora"  # PEFT merges it
    out = lora if way == "lora" else folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    if options:
        command = merge(artifact, base, out, "--svd", "exact", *options)
    else:
        command = peft_merge(base, lora, out, bits=4 if way.endswith("4 bit") else 16)
    usage = watch(command, threads=1)
    found: dict[str, Any] = {
        "bytes": sum(file.stat().st_size for file in out.glob("*.safetensors")),
        "seconds": usage.seconds,
        "peak bytes": usage.resident,
    }
    if way in ("lora", "peft-tinylora"):
        return found, PeftModel.from_pretrained(in_float32(load_base(base)), out).eval()
    if options:
        manifest = json.loads((out / "export_manifest.json").read_text())
        found |= {name: manifest["fidelity"][name] for name in ("capture", "residual")}
        if choice := manifest.get("choice"):
            chosen = choice["trials"][-1]
            found["note"] = (
                f"{len(chosen['keep'])} modules in bf16; output residual "
                f"{chosen['residual']:.3g} on the texts of the choice"
            )
    return found, load_exact(out)
