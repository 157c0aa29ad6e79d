"""One way to ship a trained vector, made and measured in a process of its own."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from peft import PeftModel

from benchmarks.beside_peft import with_peft
from exporter import ExportRequest, export
from exporter.compare.float32_model import load_base, load_exact, restored_model
from exporter.compare.prompts import read_prompts
from exporter.compare.retention import (
    Divergence,
    Reference,
    Retention,
    beside_restored,
    computed_in,
)
from exporter.request import Goal
from tinylora import DeltaOptions, FactorStore, Restoration
from tinylora.models.float32_view import in_float32
from tinylora.models.token_divergence import Kept
from tinylora.workers import single_threaded

EXACT = DeltaOptions(svd="exact")
# Where float32 cannot show this much of what loses nothing, models are compared in float64.
SHOWN = 0.999


@dataclass(frozen=True)
class Bench:
    """A vector on its base: ``folder`` holds its file, ``texts`` those of the model."""

    base: Path
    folder: Path
    texts: Path

    @property
    def artifact(self) -> Path:
        return self.folder / "tiny_lora_v.pt"

    @property
    def store(self) -> Path:
        return self.texts / "factors"

    def reference(self, arithmetic: str) -> Reference:
        """The restored model's logits in it, once :func:`restore_once` has kept them."""
        logits = self.folder / "logits" / arithmetic
        logits.mkdir(parents=True, exist_ok=True)
        prompts = read_prompts(self.texts / "heldout.jsonl", self.base).prompts
        return Reference(logits, prompts, logits=True)

    def restored(self, store: Path | None = None) -> tuple[Any, Restoration]:
        """The restored model, with factors of the vector's own or another store."""
        factors = FactorStore(store or self.store)
        return restored_model(self.base, self.artifact, EXACT, store=factors)


def restore_once(bench: Bench) -> list[dict[str, Any]]:
    """Keep the restored model's logits; what stands beside them, as JSON.

    In float32, and where that cannot show :data:`SHOWN`, in float64 too.
    """
    prompts = read_prompts(bench.texts / "heldout.jsonl", bench.base)
    with single_threaded():
        found = [beside_restored(bench.reference("float32"), bench.restored, prompts)]
        lossless = replace(found[0], export=found[0].folded).kept
        if lossless is None or lossless.at_least < SHOWN:
            finer = bench.reference("float64")
            found.append(beside_restored(finer, bench.restored, prompts, float64=True))
        return [asdict(one) for one in found]


def ways(
    calibrated: bool, all_of_them: bool, sizes: Mapping[str, int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every way by name, with the options of an export; ``sizes`` are bytes of ways before it.

    Those that choose by texts run the model often, so not every vector has them.
    """
    yield "lora", {"format": "lora"}  # PEFT merges it
    for method in ("preserve", "recompute"):
        yield f"nf4 {method}", {"format": "nf4", "requantize": method}
    for name in ("nf4-embedded", "bf16", "fp16", "fp32"):
        yield name, {"format": name}
    for name in ("PEFT merge, 4 bit", "PEFT merge, bf16"):
        yield name, {}
    if calibrated:
        by_texts = {"format": "nf4", "requantize": "calibrated", "texts": "calibration"}
        yield "nf4 calibrated", by_texts
    if all_of_them:
        yield "nf4-embedded fp16", {"format": "nf4-embedded", "adapter_dtype": "fp16"}
        yield "peft-tinylora", {"format": "peft-tinylora"}  # PEFT wants the base dequantized
        yield "restored, other LAPACK", {}
        nf4, bf16 = sizes["nf4 preserve"], sizes["bf16"]
        room = nf4 + (bf16 - nf4) // 4
        yield "nf4-mixed, a quarter", {"format": "nf4-mixed", "texts": "choice", "max_bytes": room}


def row(
    bench: Bench, name: str, options: dict[str, Any], beside: list[dict[str, Any]]
) -> dict[str, Any]:
    """Make one way and measure it beside the restored model; seconds and peak are of the making.

    Figures are of the finest arithmetic; of float32 a note says what it shows.
    """
    with single_threaded():
        start = time.process_time()
        found, load = _made(bench, name, options)
        found["seconds"] = time.process_time() - start
        found["peak bytes"] = getrusage(RUSAGE_SELF).ru_maxrss * 1024
        model = load()
        *coarse, measured = [_beside(bench, model, known) for known in beside]
    if coarse:
        found["note"] = "; ".join(filter(None, (found.get("note"), _in_float32(coarse[0].kept))))
    kept = measured.kept
    return found | {
        "retention": kept and kept.retention,
        "kept at least": kept and kept.at_least,
        "loss seen": kept and kept.loss_seen,
        "output residual": measured.output_residual,
        "mean KL": measured.export.mean,
        "top-1": measured.export.top1_agreement,
    }


def _beside(bench: Bench, model: Any, known: dict[str, Any]) -> Retention:
    """A model beside what :func:`restore_once` has found."""
    found = {k: Divergence(**v) if isinstance(v, dict) else v for k, v in known.items()}
    restored = Retention(**found)
    reference = bench.reference(restored.arithmetic)
    own = reference.distance(computed_in(restored.arithmetic, model))
    return replace(restored, export=own)


def _in_float32(kept: Kept | None) -> str:
    if kept is None:
        return "unseen in float32"
    bound = "" if kept.loss_seen else f", at least {kept.at_least:.4f}"
    return f"in float32 {kept.retention:.4g}{bound}"


def _made(
    bench: Bench, name: str, options: dict[str, Any]
) -> tuple[dict[str, Any], Callable[[], Any]]:
    """What is known of a way's files, and how its model is loaded in float32."""
    if name.startswith("restored"):
        model = bench.restored(bench.texts / "other-lapack")[0]
        return {}, lambda: in_float32(model).eval()
    lora = bench.folder / "lora"  # PEFT merges it
    out = lora if name == "lora" else bench.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    if name.startswith("PEFT"):
        paths = map(str, (bench.base, lora, out))
        merged = with_peft(*paths, in_4_bits=name.endswith("4 bit"))
        return {"bytes": weight_bytes(out)}, lambda: in_float32(merged).eval()
    options = dict(options)
    texts, room = options.pop("texts", None), options.pop("max_bytes", None)
    goal = Goal(prompts=texts and bench.texts / f"{texts}.jsonl", max_bytes=room)
    shared = {"factor_store": bench.store, "goal": goal, "options": EXACT}
    report = export(ExportRequest(bench.base, bench.artifact, out, **shared, **options))
    found: dict[str, Any] = {"bytes": weight_bytes(out)}
    if name in ("lora", "peft-tinylora"):
        return found, lambda: PeftModel.from_pretrained(
            in_float32(load_base(bench.base)), out
        ).eval()
    total = report.fidelity.total
    found |= {"capture": total.capture, "residual": total.residual}
    if report.choice is not None:
        chosen = report.choice.chosen
        found["note"] = (
            f"{len(chosen.keep)} modules in bf16; output residual {chosen.residual:.3g} on the "
            "texts of the choice"
        )
    return found, partial(load_exact, out)


def weight_bytes(directory: Path) -> int:
    """Bytes of all weight files."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def kept_json(path: Path, make: Callable[[], Any]) -> Any:
    """What a file holds; made and written whole where it is not there yet."""
    if not path.is_file():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(found, indent=1))
        unfinished.replace(path)
    return json.loads(path.read_text())
