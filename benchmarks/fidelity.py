"""The fidelity frontier: bytes against what is kept, for every format and several sizes of v.

The demo's trained vector is scaled to several mean sizes. Each artifact is exported in every way,
calibrated on the training problems' chats, and compared with the restored model on the held-out
problems' chats, beside merges made by PEFT itself in the same run.

    python -m benchmarks.fidelity            writes results/fidelity/
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from benchmarks.measure import machine
from exporter import ExportRequest, export
from exporter.compare.float32_model import in_float32, load_base, load_exact
from exporter.compare.prompts import PromptSet, read_prompts
from exporter.compare.retention import Divergence, Reference
from exporter.errors import TargetResidualError
from exporter.request import Goal
from tinylora import load_artifact, restore, save_artifact
from tinylora.workers import single_threaded

BASE, ARTIFACT, PROMPTS = Path("demo/base"), Path("demo/tiny_lora_v.pt"), Path("demo/prompts")
SIZES = (1e-5, 1e-4, 1e-3, 5e-3, 3e-2, 1e-1)
TARGET = 0.3
# The scales' offset stands in JSON, so the same tensors differ by a few bytes.
_SLACK = 1.0001


@dataclass(frozen=True)
class Way:
    """One way of storing a model; ``options`` are fields of an ExportRequest."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What stays the same for all ways of one size."""

    size: float
    artifact: Path
    folder: Path
    reference: Reference
    base: Divergence

    def request(self, name: str, options: dict[str, Any]) -> ExportRequest:
        out = self.folder / name.replace(" ", "-")
        store = self.folder.parent / "factors"
        return ExportRequest(BASE, self.artifact, out, factor_store=store, **options)

    def row(self, name: str, model: Any, size: int, weights: dict[str, Any]) -> dict[str, Any]:
        """Measure a model, in float32; ``size`` is that of its weight files."""
        found = self.reference.distance(model)
        visible = self.base.mean > 0
        return {
            "mean |v|": self.size,
            "way": name,
            "bytes": size,
            "directory": weights.get("directory"),
            "retention": 1 - found.mean / self.base.mean if visible else None,
            "output residual": found.logit_distance / self.base.logit_distance,
            "mean KL": found.mean,
            "top-1": found.top1_agreement,
            "capture": weights.get("capture"),
            "weight residual": weights.get("residual"),
            "note": weights.get("note", ""),
        }


def ways(nf4: int, bf16: int) -> Iterator[Way]:
    """Every format and requantizer; ``nf4`` and ``bf16`` are the bytes of those."""
    calibration = Goal(prompts=PROMPTS / "calibration.jsonl")
    for method in ("preserve", "recompute"):
        yield Way(f"nf4 {method}", {"requantize": method})
    yield Way("nf4 calibrated", {"requantize": "calibrated", "goal": calibration})
    for share in (0.25, 0.5):
        goal = replace(calibration, max_bytes=int(nf4 + share * (bf16 - nf4)))
        options = {"format": "nf4-mixed", "requantize": "calibrated", "goal": goal}
        yield Way(f"nf4-mixed, {share:.0%} of the way to bf16", options)
    goal = replace(calibration, target_residual=TARGET)
    yield Way(f"nf4-mixed, target {TARGET}", {"format": "nf4-mixed", "goal": goal})
    yield Way("nf4-embedded", {"format": "nf4-embedded"})
    yield Way("nf4-embedded fp16", {"format": "nf4-embedded", "adapter_dtype": "fp16"})
    for name in ("bf16", "fp16", "fp32"):
        yield Way(name, {"format": name})


def our_rows(bench: Bench) -> Iterator[dict[str, Any]]:
    sizes = {
        name: weight_bytes(export(bench.request(f"size-{name}", {"format": name})).out)
        for name in ("nf4", "bf16")
    }
    for way in ways(**sizes):
        try:
            report = export(bench.request(way.name, way.options))
        except TargetResidualError as error:
            yield {"mean |v|": bench.size, "way": way.name, "note": str(error).split(":")[1]}
            continue
        total = report.fidelity.total
        everything = sum(file.stat().st_size for file in report.out.rglob("*"))
        weights = {
            "capture": total.capture,
            "residual": total.residual,
            "directory": everything,
        }
        if report.choice is not None:
            found = report.choice.chosen
            weights["note"] = (
                f"{len(found.keep)} modules in bf16; {found.residual:.4g} on the calibration texts"
            )
        yield bench.row(way.name, load_exact(report.out), weight_bytes(report.out), weights)


def adapter_rows(bench: Bench) -> Iterator[dict[str, Any]]:
    """Our adapters as PEFT attaches them, on exact views of the quantized base."""
    for name in ("lora", "peft-tinylora"):
        out = export(bench.request(name, {"format": name})).out
        model = PeftModel.from_pretrained(in_float32(load_base(BASE)), out)
        yield bench.row(f"{name} (adapter alone)", model.eval(), weight_bytes(out), {})


def peft_rows(bench: Bench) -> Iterator[dict[str, Any]]:
    """PEFT's own merges of the equal LoRA."""
    lora = bench.folder / "lora"
    nf4 = weight_bytes(bench.folder / "size-nf4")
    bf16 = weight_bytes(bench.folder / "size-bf16")
    merged = PeftModel.from_pretrained(load_base(BASE), lora).merge_and_unload()
    yield bench.row("PEFT merge, 4 bit", in_float32(merged).eval(), nf4, {})
    dense = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(dense, lora).merge_and_unload()
    note = {"note": "onto the 16-bit weights, which the adapter never saw"}
    yield bench.row("PEFT merge, bf16", in_float32(merged).eval(), bf16, note)


def measured(size: float, folder: Path, prompts: PromptSet) -> Iterator[dict[str, Any]]:
    """All rows of one size."""
    folder.mkdir()
    artifact = load_artifact(ARTIFACT)
    vector = artifact.global_v.float()
    save_artifact(
        folder / "tiny_lora_v.pt",
        global_v=vector * (size / vector.abs().mean()),
        rank=artifact.rank,
        seed=artifact.seed,
        model_id=artifact.model_id,
        total_replaced_layers=artifact.total_replaced_layers,
        formula=artifact.formula,
        saved_device=artifact.saved_device,
    )
    logits = folder / "logits"
    logits.mkdir()
    model = load_base(BASE)
    restoration = restore(model, load_artifact(folder / "tiny_lora_v.pt"))
    reference = Reference(logits, prompts.prompts)
    reference.keep(in_float32(model).eval())
    restoration.remove()
    bench = Bench(size, folder / "tiny_lora_v.pt", folder, reference, reference.distance(model))
    yield bench.row("base, no adapter", model, weight_bytes(BASE), {})
    for rows in (our_rows, adapter_rows, peft_rows):
        for row in rows(bench):
            print(f"{row['mean |v|']:g} {row['way']}: {row.get('output residual')}", flush=True)
            yield row


def weight_bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def frontier(table: pd.DataFrame) -> list[str]:
    """For every PEFT merge: the best of ours that is not larger, and whether it is as good."""
    lines = []
    ours = table[~table["way"].str.contains("PEFT|base|alone") & table["bytes"].notna()]
    for _, peft in table[table["way"].str.contains("PEFT")].iterrows():
        fits = ours[
            (ours["mean |v|"] == peft["mean |v|"]) & (ours["bytes"] <= _SLACK * peft["bytes"])
        ]
        best = fits.loc[fits["output residual"].idxmin()]
        holds = best["output residual"] <= peft["output residual"]
        lines.append(
            f"| {peft['mean |v|']:g} | {peft['way']} | {peft['output residual']:.4g} | "
            f"{best['way']} | {best['output residual']:.4g} | {'yes' if holds else '**no**'} |"
        )
    return lines


def report(table: pd.DataFrame, tokens: int) -> str:
    """The Markdown page."""
    shown = table.copy()
    nf4 = table.loc[table["way"] == "nf4 preserve", "bytes"].iloc[0]
    whole = table[table["way"] == "nf4 preserve"].set_index("mean |v|")["directory"]
    shown["bytes"] = [f"{b / nf4:.3f} ×" if pd.notna(b) else "" for b in table["bytes"]]
    shown["directory"] = [
        f"{b / whole[v]:.4f} ×" if pd.notna(b) else ""
        for b, v in zip(table["directory"], table["mean |v|"], strict=True)
    ]
    kept: Callable[[float], str] = lambda x: "" if pd.isna(x) else f"{x:.4g}"  # noqa: E731
    for name in shown.columns[4:-1]:
        shown[name] = [kept(x) for x in table[name]]
    shown["mean |v|"] = [f"{x:g}" for x in table["mean |v|"]]
    head = " | ".join(shown.columns)
    body = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in shown.fillna("").values)
    return (
        "# Fidelity frontier on the demo\n\n"
        f"`python -m benchmarks.fidelity` on {machine()}.\n\n"
        f"{tokens} held-out tokens; bytes of the weight files and of the whole directory, relative "
        "to nf4; the vector is the demo's, scaled (5e-3 is its own size). Retention is 1 − "
        "KL(restored‖way)/KL(restored‖base)"
        ", output residual ‖y − y(restored)‖/‖y(base) − y(restored)‖ over logits; capture and "
        "weight residual are those of the written files.\n\n"
        f"| {head} |\n|{' --- |' * len(shown.columns)}\n{body}\n\n"
        "## Beside PEFT's merges\n\n"
        "Best of ours that takes no more bytes (but for 0.01 %: the scales' offset stands in JSON, "
        "a few digits longer or shorter).\n\n"
        "| mean \\|v\\| | PEFT | its residual | ours | our residual | as good |\n"
        f"|{' --- |' * 6}\n" + "\n".join(frontier(table)) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=Path("results/fidelity"))
    args = parser.parse_args()
    prompts = read_prompts(PROMPTS / "heldout.jsonl", BASE)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, single_threaded():
        for number, size in enumerate(args.sizes):
            rows += measured(size, Path(folder) / str(number), prompts)
    table = pd.DataFrame(rows)
    args.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out / "fidelity.csv", index=False)
    (args.out / "fidelity.md").write_text(report(table, prompts.tokens), encoding="utf-8")
    print((args.out / "fidelity.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
