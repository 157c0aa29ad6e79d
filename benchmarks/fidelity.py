"""Fidelity frontier on the demo

    python -m benchmarks.fidelity

The demo's trained vector is scaled to several mean sizes (5e-3 is its own). Each artifact is
exported in every way, calibrated on the training problems' chats, and compared with the restored
model on the held-out problems' chats, beside merges made by PEFT itself in the same run. Bytes are
those of the weight files, relative to nf4. Retention is 1 −
KL(restored‖way)/KL(restored‖base), output residual ‖y − y(restored)‖/‖y(base) − y(restored)‖ over
logits; capture and weight residual are those of the written files.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from benchmarks.harness import parser, table, write_page
from exporter import ExportRequest, export
from exporter.compare.float32_model import load_base, load_exact
from exporter.compare.prompts import PromptSet, read_prompts
from exporter.compare.retention import Divergence, Reference
from exporter.errors import TargetResidualError
from exporter.request import Goal
from tinylora import load_artifact, restore, save_artifact
from tinylora.models.float32_view import in_float32
from tinylora.workers import single_threaded

BASE, ARTIFACT, PROMPTS = Path("demo/base"), Path("demo/tiny_lora_v.pt"), Path("demo/prompts")
SIZES = (1e-5, 1e-4, 1e-3, 5e-3, 3e-2, 1e-1)
TARGET = 0.3


@dataclass(frozen=True)
class Bench:
    """What stays the same for all ways of one size of v."""

    size: float
    folder: Path
    reference: Reference
    base: Divergence

    def export(self, name: str, **options: Any) -> Path:
        """Export in one way; the directory."""
        out, store = self.folder / name.replace(" ", "-"), self.folder.parent / "factors"
        artifact = self.folder / "tiny_lora_v.pt"
        return export(ExportRequest(BASE, artifact, out, factor_store=store, **options)).out

    def row(self, name: str, model: Any, weights: Path, **more: Any) -> dict[str, Any]:
        """Measure a model, in float32, whose weight files lie in ``weights``."""
        found = self.reference.distance(model)
        visible = self.base.mean > 0
        return {
            "mean |v|": self.size,
            "way": name,
            "bytes": weight_bytes(weights),
            "retention": 1 - found.mean / self.base.mean if visible else None,
            "output residual": found.logit_distance / self.base.logit_distance,
            "mean KL": found.mean,
            "top-1": found.top1_agreement,
            "capture": more.get("capture"),
            "weight residual": more.get("residual"),
            "note": more.get("note", ""),
        }


def ways(nf4: int, bf16: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every format and requantizer, with its options; ``nf4`` and ``bf16`` are their bytes."""
    calibration = Goal(prompts=PROMPTS / "calibration.jsonl")
    for method in ("preserve", "recompute"):
        yield f"nf4 {method}", {"requantize": method}
    yield "nf4 calibrated", {"requantize": "calibrated", "goal": calibration}
    for share in (0.25, 0.5):
        goal = replace(calibration, max_bytes=int(nf4 + share * (bf16 - nf4)))
        options = {"format": "nf4-mixed", "requantize": "calibrated", "goal": goal}
        yield f"nf4-mixed, {share:.0%} of the way to bf16", options
    goal = replace(calibration, target_residual=TARGET)
    yield f"nf4-mixed, target {TARGET}", {"format": "nf4-mixed", "goal": goal}
    yield "nf4-embedded", {"format": "nf4-embedded"}
    yield "nf4-embedded fp16", {"format": "nf4-embedded", "adapter_dtype": "fp16"}
    for name in ("bf16", "fp16", "fp32"):
        yield name, {"format": name}


def rows(bench: Bench) -> Iterator[dict[str, Any]]:
    """Every format of this project, and PEFT's merges of the equal LoRA."""
    nf4, bf16 = (bench.export(f"size-{name}", format=name) for name in ("nf4", "bf16"))
    for name, options in ways(weight_bytes(nf4), weight_bytes(bf16)):
        try:
            out = bench.export(name, **options)
        except TargetResidualError as error:
            yield {"mean |v|": bench.size, "way": name, "note": str(error).split(":")[1]}
            continue
        manifest = json.loads((out / "export_manifest.json").read_text())
        more = {name: manifest["fidelity"][name] for name in ("capture", "residual")}
        for chosen in (manifest["choice"] or {"trials": []})["trials"][-1:]:
            kept, left = len(chosen["keep"]), chosen["residual"]
            more["note"] = f"{kept} modules in bf16; {left:.4g} on the calibration texts"
        yield bench.row(name, load_exact(out), out, **more)
    for name in ("lora", "peft-tinylora"):
        out = bench.export(name, format=name)
        model = PeftModel.from_pretrained(in_float32(load_base(BASE)), out)
        yield bench.row(f"{name} (adapter alone)", model.eval(), out)
    lora = bench.folder / "lora"
    merged = PeftModel.from_pretrained(load_base(BASE), lora).merge_and_unload()
    yield bench.row("PEFT merge, 4 bit", in_float32(merged).eval(), nf4)
    dense = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(dense, lora).merge_and_unload()
    said = "onto the 16-bit weights, which the adapter never saw"
    yield bench.row("PEFT merge, bf16", in_float32(merged).eval(), bf16, note=said)


def measured(size: float, folder: Path, prompts: PromptSet) -> Iterator[dict[str, Any]]:
    """All rows of one size of v."""
    (folder / "logits").mkdir(parents=True)
    demo, scaled = load_artifact(ARTIFACT), folder / "tiny_lora_v.pt"
    vector = demo.global_v.float()
    same = ("rank", "seed", "model_id", "total_replaced_layers", "formula", "saved_device")
    fields = {name: getattr(demo, name) for name in same}
    save_artifact(scaled, global_v=vector * (size / vector.abs().mean()), **fields)
    model = load_base(BASE)
    restoration = restore(model, load_artifact(scaled))
    reference = Reference(folder / "logits", prompts.prompts)
    reference.keep(in_float32(model).eval())
    restoration.remove()
    bench = Bench(size, folder, reference, reference.distance(model))
    yield bench.row("base, no adapter", model, BASE)
    yield from rows(bench)


def weight_bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed; bytes are relative to those of nf4."""
    nf4 = found[found["way"] == "nf4 preserve"].set_index("mean |v|")["bytes"]
    printed = found.map(lambda x: f"{x:.4g}" if isinstance(x, float) else x)
    printed["bytes"] = [f"{share:.3f} ×" for share in found["bytes"] / found["mean |v|"].map(nf4)]
    return printed.mask(found.isna(), "")


def main() -> None:
    options = parser(__doc__, "fidelity")
    options.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    args = options.parse_args()
    prompts = read_prompts(PROMPTS / "heldout.jsonl", BASE)
    with tempfile.TemporaryDirectory() as name, single_threaded():
        found = pd.DataFrame(
            [row for size in args.sizes for row in measured(size, Path(name) / str(size), prompts)]
        )
    args.out.mkdir(parents=True, exist_ok=True)
    found.to_csv(args.out / "fidelity.csv", index=False)
    page = table(list(found.columns), shown(found).values)
    write_page(args.out / "fidelity.md", __doc__, f"{prompts.tokens} held-out tokens.", page)


if __name__ == "__main__":
    main()
