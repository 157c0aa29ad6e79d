"""Ways of keeping a small delta in 4-bit weights that were tried, beside those that were kept.

Every way sees the training problems' chats of the demo and is measured on the held-out ones, as the
output residual (0: restored, 1: the base). All load with a plain from_pretrained.

    python -m benchmarks.requantizers        writes results/fidelity/requantizers.md
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import exporter.quantize.calibrated as calibrate
from benchmarks.measure import machine
from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.choose.activations import Activations
from exporter.choose.trial_model import TrialModel
from exporter.compare.prompts import read_prompts
from exporter.fold.read_weights import trained_weight
from exporter.formats.nf4 import Nf4
from exporter.plan.plan import build_plan
from exporter.quantize.requantize import preserve, recompute
from tinylora import (
    AdapterDeltas,
    FactorStore,
    LowRankDelta,
    QuantizedWeight,
    adapted_layers,
    load_artifact,
)
from tinylora.svd.factors import weight_matrix
from tinylora.workers import single_threaded

BASE, ARTIFACT, PROMPTS = Path("demo/base"), Path("demo/tiny_lora_v.pt"), Path("demo/prompts")
SIZES = (1e-4, 1e-3, 5e-3, 3e-2)


@dataclass(frozen=True)
class Module:
    """One module to store."""

    name: str
    seen: QuantizedWeight
    delta: LowRankDelta
    moment: Tensor
    mean: Tensor

    @property
    def wanted(self) -> Tensor:
        return weight_matrix(self.seen) + self.delta.dense()


def with_damping(damping: float) -> Callable[[Module], Tensor]:
    def way(module: Module) -> Tensor:
        kept, calibrate.DAMPING = calibrate.DAMPING, damping
        try:
            merged = calibrate.calibrated(module.seen, module.delta, module.moment)
        finally:
            calibrate.DAMPING = kept
        return weight_matrix(merged)

    return way


def neighbouring_absmax(module: Module, span: int = 3) -> Tensor:
    """Per block the absmax byte within ``span`` of the base's, and codes, nearest to W + ΔW."""
    seen, wanted = module.seen, module.wanted.reshape(-1, module.seen.blocksize)
    nested = seen.nested
    assert nested is not None
    order = torch.argsort(nested.code)
    place = torch.empty_like(order)
    place[order] = torch.arange(256)
    scales = nested.absmax.repeat_interleave(nested.blocksize)[: seen.absmax.numel()]
    best = torch.full((wanted.shape[0],), torch.inf, dtype=torch.float64)
    found = torch.zeros_like(wanted)
    for step in range(-span, span + 1):
        byte = order[(place[seen.absmax.int()] + step).clamp(0, 255)]
        absmax = nested.code[byte] * scales + nested.offset
        values = (absmax.unsqueeze(1) * seen.code).to(seen.dtype).float().sort(dim=1).values
        middle = ((values[:, 1:] + values[:, :-1]) / 2).contiguous()
        stored = values.gather(1, torch.searchsorted(middle, wanted.contiguous()))
        miss = (stored - wanted).double().square().sum(dim=1).masked_fill(absmax <= 0, torch.inf)
        found = torch.where((miss < best).unsqueeze(1), stored, found)
        best = torch.minimum(miss, best)
    return found.view(seen.shape)


def float32_scales(module: Module) -> Tensor:
    """The base's codes, one fp32 absmax a block fitted to W + ΔW (single quantization)."""
    codes = module.seen.code[module.seen.codes().int()].view(-1, module.seen.blocksize)
    wanted = module.wanted.reshape(codes.shape)
    absmax = (codes * wanted).sum(dim=1) / codes.square().sum(dim=1).clamp_min(1e-30)
    stored = (codes * absmax.unsqueeze(1)).to(module.seen.dtype).float()
    return stored.view(module.seen.shape)


def float32_scales_by_output(module: Module) -> Tensor:
    """As above, fitted row by row to the module's output on the calibration texts."""
    seen, (out, into) = module.seen, module.seen.shape
    blocks = into // seen.blocksize
    codes = seen.code[seen.codes().int()].view(out, blocks, seen.blocksize).double()
    metric = module.moment.double()
    metric = metric + 0.3 * metric.diagonal().mean() * torch.eye(into, dtype=torch.float64)
    pulls = (module.delta.dense().double() @ metric).view(codes.shape)
    normal = torch.empty(out, blocks, blocks, dtype=torch.float64)
    for block in range(blocks):
        rows = metric[block * seen.blocksize : (block + 1) * seen.blocksize]
        normal[:, block] = ((codes[:, block] @ rows).view(codes.shape) * codes).sum(dim=2)
    change = torch.linalg.solve(normal, (pulls * codes).sum(dim=2))
    absmax = seen.block_absmax().view(out, blocks).double() + change
    return (absmax.unsqueeze(2) * codes).float().to(seen.dtype).float().view(out, into)


WAYS: dict[str, tuple[Callable[[Module], Tensor], bool, str]] = {
    "preserve": (lambda m: weight_matrix(preserve(m.seen, m.delta)), False, "kept, the default"),
    "recompute (as PEFT)": (lambda m: weight_matrix(recompute(m.seen, m.delta)), False, "kept"),
    "calibrated, λ 0.3": (with_damping(0.3), False, "kept"),
    "calibrated, λ 0.01": (with_damping(0.01), False, ""),
    "calibrated, λ 1": (with_damping(1.0), False, ""),
    "neighbouring absmax bytes": (neighbouring_absmax, False, ""),
    "fp32 absmax, fitted to the weights": (float32_scales, False, "+ 0.37 bit a weight"),
    "fp32 absmax, fitted to the output": (float32_scales_by_output, False, "+ 0.37 bit a weight"),
    "preserve + bias": (lambda m: weight_matrix(preserve(m.seen, m.delta)), True, "q, k, v only"),
    "calibrated + bias": (with_damping(0.3), True, "q, k, v only"),
}


def residuals(size: float, folder: Path) -> Iterator[float]:
    """Output residual on the held-out texts, way by way."""
    base = open_checkpoint(BASE)
    artifact = load_artifact(ARTIFACT)
    vector = artifact.global_v.float()
    scaled = (vector * (size / vector.abs().mean())).bfloat16()
    artifact = replace(artifact, global_v=scaled)
    architecture = read_architecture(
        BASE, base.config, lambda m: [name for name, _ in adapted_layers(artifact, m, str(BASE))]
    )
    plan = build_plan(base, architecture, Nf4(), sizes=artifact.sizes)
    units = list(plan.folds.values())
    deltas = AdapterDeltas(artifact, plan.targets, None, FactorStore(folder / "factors"))
    seen = {unit.module: trained_weight(unit, base) for unit in units}
    low_rank = {name: deltas.delta(name, weight) for name, weight in seen.items()}
    models = {}
    for name in ("calibration", "heldout"):
        texts = read_prompts(PROMPTS / f"{name}.jsonl", BASE).prompts
        scratch = folder / f"{name}-{size:g}"
        scratch.mkdir()
        models[name] = TrialModel(base, units, low_rank, texts, scratch)
    recorded, heldout = models["calibration"].activations, models["heldout"]
    modules = [
        Module(
            name, weight, low_rank[name], recorded.second_moment(name), _mean_input(recorded, name)
        )
        for name, weight in seen.items()
        if isinstance(weight, QuantizedWeight)
    ]
    for way, with_bias, _ in WAYS.values():
        biases = {}
        for module in modules:
            stored, layer = way(module), heldout.layer(module.name)
            heldout.put(module.name, stored)
            if with_bias and layer.bias is not None:
                biases[module.name] = layer.bias.data
                layer.bias.data = layer.bias.data + (module.wanted - stored) @ module.mean
        yield heldout.residual()
        for name, bias in biases.items():
            heldout.layer(name).bias.data = bias


def _mean_input(recorded: Activations, module: str) -> Tensor:
    """Mean input of a module, float32 ``[in]``."""
    return torch.cat(list(recorded.inputs(module))).mean(dim=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=Path("results/fidelity/requantizers.md"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, single_threaded():
        columns = [list(residuals(size, Path(folder))) for size in args.sizes]
    lines = [
        "# Ways of keeping a delta in 4 bits, output residual on held-out texts",
        "",
        f"`python -m benchmarks.requantizers` on {machine()}.",
        "",
        "| way | " + " | ".join(f"mean \\|v\\| {size:g}" for size in args.sizes) + " | |",
        "| --- |" + " ---: |" * len(args.sizes) + " --- |",
    ]
    for number, (name, (_, _, note)) in enumerate(WAYS.items()):
        cells = " | ".join(f"{column[number]:.4f}" for column in columns)
        lines.append(f"| {name} | {cells} | {note} |")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(args.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
