"""Tokens/s of the restored model, beside its base and beside ΔW formed in every forward.

    python -m benchmarks.random_base --shape 0.36b --out DIR
    python -m benchmarks.decode --model DIR [--quick]

Greedy decoding from a filled KV cache, batch 1 and 16, on the base in float32 and in 4 bits as the
trainer loads it (float32 arithmetic). The arms share one model and its base layers; only what lies
around these is exchanged. Upstream's arm is the formula as it stands, ΔW = U diag(S) R Vh as a
dense matrix in every forward of every module, in bf16 as there and, lest the processor's slow bf16
decide, in float32. Writes results/bench/decode.md.

How much dearer upstream's way is depends on how fast the processor is at bf16. With
``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2`` it computes as one without AVX-512.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedModel,
)

from benchmarks.measure import alternate, at_least, machine
from benchmarks.random_base import write_artifact, write_base
from evaluator.generation.compute_dtype import compute_in
from tinylora import (
    DeltaOptions,
    FactorStore,
    TinyLoRALinear,
    load_artifact,
    restore,
)
from tinylora.models.trainer_nf4 import trainer_nf4

BASE, OURS = "base alone (limit)", "ours, rank-r"
UPSTREAM = {
    "upstream's way, ΔW in bf16": torch.bfloat16,
    "upstream's way, ΔW in float32": torch.float32,
}
OF_BASE, OF_UPSTREAM = 0.9, 5.0
PROMPT_TOKENS = 16
HOLDING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


class DenseDeltaLinear(nn.Module):
    """Upstream's forward: ΔW is formed, then multiplied with the input."""

    def __init__(self, wrapper: TinyLoRALinear, vector: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.base_layer = wrapper.base_layer
        self.dtype = dtype
        self.v, self.P = vector.to(dtype), wrapper.P.to(dtype)
        self.U, self.S, self.Vh = (t.to(dtype) for t in (wrapper.U, wrapper.S, wrapper.Vh))

    def forward(self, x: Tensor) -> Tensor:
        base: Tensor = self.base_layer(x)
        R = torch.einsum("u,uij->ij", self.v, self.P)
        delta = self.U @ torch.diag(self.S) @ R @ self.Vh
        return base + (x.to(self.dtype) @ delta.T).to(base.dtype)


class Decoder:
    """One arm on one batch: calling it writes ``tokens`` more tokens after the prompts.

    Attributes:
        logits: After the prompts, ``[batch, vocabulary]``.
    """

    def __init__(
        self, model: PreTrainedModel, modules: Mapping[str, nn.Module], prompts: Tensor, tokens: int
    ) -> None:
        self._model, self._modules, self._tokens = model, modules, tokens
        self._length = prompts.shape[1]
        self._cache = DynamicCache(config=model.config)
        self._place()
        self.logits = self._step(prompts)

    def __call__(self) -> None:
        self._place()
        self._cache.crop(self._length - self._cache.get_seq_length())  # how many to remove, as < 0
        logits = self.logits
        for _ in range(self._tokens):
            logits = self._step(logits.argmax(dim=-1, keepdim=True))

    def _place(self) -> None:
        for name, module in self._modules.items():
            parent, _, child = name.rpartition(".")
            setattr(self._model.get_submodule(parent), child, module)

    def _step(self, ids: Tensor) -> Tensor:
        found = self._model(
            input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        return found.logits[:, -1]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Speed:
    """One line of the table.

    Attributes:
        base: How the base is stored.
        batch: Sequences at once.
        arm: Which arm.
        rate: Tokens/s, median.
        apart: Largest difference of a logit to ours, after the prompts.
    """

    base: str
    batch: int
    arm: str
    rate: float
    apart: float


def load(directory: Path, four_bit: bool) -> PreTrainedModel:
    """A base, in 4 bits as the trainer loads it, or dense."""
    options = {"quantization_config": trainer_nf4()} if four_bit else {}
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, **options).eval()


def speeds(model_dir: Path, four_bit: bool, tokens: int, rounds: int) -> Iterator[Speed]:
    """All arms on one base."""
    model = load(model_dir / "base", four_bit)
    artifact = load_artifact(model_dir / "tiny_lora_v.pt")
    # the fast factors: which factors they are does not matter to the speed
    store = FactorStore(model_dir / "factors")
    restored = restore(model, artifact, DeltaOptions(svd="fast"), store)
    compute_in(model, torch.float32)
    wrappers = {name: model.get_submodule(name) for name in restored.wrapped}
    vector = restored.global_params.global_v
    arms = {BASE: {name: module.base_layer for name, module in wrappers.items()}, OURS: wrappers}
    for arm, dtype in UPSTREAM.items():
        arms[arm] = {name: DenseDeltaLinear(w, vector, dtype) for name, w in wrappers.items()}
    stored = "nf4" if four_bit else "float32"
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 16):
        sides = (batch, PROMPT_TOKENS)
        prompts = torch.randint(3, model.config.vocab_size, sides, generator=generator)
        decoders = {arm: Decoder(model, kept, prompts, tokens) for arm, kept in arms.items()}
        for row in alternate("", decoders, rounds):
            apart = (decoders[row.way].logits - decoders[OURS].logits).abs().max().item()
            yield Speed(stored, batch, row.way, batch * tokens / row.median, apart)


def report(found: list[Speed], command: str) -> str:
    """The table, and which of the wanted ratios hold."""
    lines = [
        "# Decoding with a restored adapter",
        "",
        f"`{command}` on {machine()}.",
        "",
        f"Greedy, from a KV cache of {PROMPT_TOKENS} tokens, float32 arithmetic; nf4: "
        "bitsandbytes' layers, which on this processor dequantize the weight in every forward. "
        "Median of the rounds. The last column: largest difference of a logit to ours.",
        "",
        "| base | batch | arm | tokens/s | of the base's | ours / this | logits apart |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for speed in found:
        of_base = speed.rate / rate(found, speed, BASE)
        gain = rate(found, speed, OURS) / speed.rate
        lines.append(
            f"| {speed.base} | {speed.batch} | {speed.arm} | {speed.rate:.3g} | {of_base:.3f} "
            f"| {gain:.2f} | {speed.apart:.1e} |"
        )
    return "\n".join([*lines, "", *verdicts(found)]) + "\n"


def rate(found: list[Speed], of: Speed, arm: str) -> float:
    """Tokens/s of an arm on the base and batch of a line."""
    return next(s.rate for s in found if (s.base, s.batch, s.arm) == (of.base, of.batch, arm))


def verdicts(found: list[Speed]) -> Iterator[str]:
    """A sentence for each base, batch and wanted ratio."""
    bf16, float32 = UPSTREAM
    for ours in (speed for speed in found if speed.arm == OURS):
        base, dense = rate(found, ours, BASE), rate(found, ours, float32)
        upstream = rate(found, ours, bf16)
        of_base, gain = ours.rate / base, ours.rate / upstream
        yield (
            f"- {ours.base}, batch {ours.batch}: {of_base:.2f} of the base's tokens/s "
            f"({at_least(of_base, OF_BASE)}), {gain:.1f} × upstream's "
            f"({at_least(gain, OF_UPSTREAM)}), where the base alone, and so any forward, has "
            f"{base / upstream:.1f} ×; of a dense ΔW in float32, {ours.rate / dense:.1f} × of at "
            f"most {base / dense:.1f} ×."
        )


def tiny_model(directory: Path) -> None:
    """What ``benchmarks.random_base --shape tiny`` writes."""
    architecture = write_base("tiny", directory / "base", 1 << 30)
    write_artifact(directory / "tiny_lora_v.pt", len(architecture.targets), "random/tiny")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="what benchmarks.random_base wrote")
    parser.add_argument("--tokens", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("results/bench/decode.md"))
    args = parser.parse_args()
    if not args.quick and args.model is None:
        parser.error("--model DIR is needed, or --quick")
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        if args.quick:
            tiny_model(Path(scratch))
        model = Path(scratch) if args.quick else args.model
        found = [
            speed
            for four_bit in (False, True)
            for speed in speeds(model, four_bit, args.tokens, args.rounds)
        ]
    of = "--quick" if args.quick else f"--model {model.name}"
    held = [f"{name}={os.environ[name]}" for name in HOLDING if name in os.environ]
    command = " ".join(
        [*held, f"python -m benchmarks.decode {of} --tokens {args.tokens} --rounds {args.rounds}"]
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report(found, command))
    print(args.out.read_text())


if __name__ == "__main__":
    main()
