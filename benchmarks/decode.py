"""Decoding with a restored adapter

    python -m benchmarks.random_base --shape 0.36b --out DIR
    python -m benchmarks.decode --model DIR

Two tokens from a KV cache of 16, batch 1 and 16, on the base in float32 and in 4 bits as the
trainer loads it (float32 arithmetic; bitsandbytes' layers dequantize the weight in every forward).
The arms share one model and its base layers; only what lies around these is exchanged. Upstream's
arm is the formula as it stands, ΔW = U diag(S) R Vh as a dense matrix in every forward of every
module, in bf16 as there and, lest the processor's slow bf16 decide, in float32. How much dearer it
is depends on how fast the processor is at bf16: with ``ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2`` it computes as one without AVX-512. The last column: largest difference of
a logit to ours, after the prompts.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from benchmarks.harness import alternate, parser, table, write_page
from evaluator.generation.load_checks import compute_in
from tinylora import DeltaOptions, FactorStore, TinyLoRALinear, load_artifact, restore
from tinylora.models.pretrained import trainer_nf4

BASE, OURS = "base alone (limit)", "ours, rank-r"
BF16, FLOAT32 = "upstream's way, ΔW in bf16", "upstream's way, ΔW in float32"
BATCHES, PROMPT_TOKENS, TOKENS = (1, 16), 16, 2
COLUMNS = ("base", "batch", "arm", "tokens/s", "of the base's", "ours / this", "logits apart")


class DenseDeltaLinear(nn.Module):
    """Upstream's forward: ΔW is formed, then multiplied with the input."""

    def __init__(self, dtype: torch.dtype, vector: Tensor, wrapper: TinyLoRALinear) -> None:
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


def decoder(
    model: PreTrainedModel, modules: Mapping[str, nn.Module], prompts: Tensor
) -> tuple[Callable[[], None], Tensor]:
    """One arm on one batch: what writes some more tokens after the prompts, and the first logits.

    The logits, ``[batch, vocabulary]``, are those after the prompts.
    """
    cache = DynamicCache(config=model.config)

    def place() -> None:
        for name, module in modules.items():
            model.set_submodule(name, module)

    def step(ids: Tensor) -> Tensor:
        options = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
        logits: Tensor = model(input_ids=ids, **options).logits
        return logits[:, -1]

    def decode() -> None:
        place()
        cache.crop(prompts.shape[1] - cache.get_seq_length())  # how many to remove, as < 0
        logits = first
        for _ in range(TOKENS):
            logits = step(logits.argmax(dim=-1, keepdim=True))

    place()
    first = step(prompts)
    return decode, first


@torch.inference_mode()
def rows(directory: Path, four_bit: bool, rounds: int) -> Iterator[tuple[object, ...]]:
    """All arms on one base, for each size of the batch."""
    options = {"quantization_config": trainer_nf4()} if four_bit else {}
    base = directory / "base"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, **options).eval()
    # the fast factors: which factors they are does not matter to the speed
    artifact = load_artifact(directory / "tiny_lora_v.pt")
    store = FactorStore(directory / "factors")
    restored = restore(model, artifact, DeltaOptions(svd="fast"), store)
    compute_in(model, torch.float32)
    vector = restored.global_params.global_v
    forms: dict[str, Callable[[TinyLoRALinear], nn.Module]] = {
        BASE: lambda wrapper: wrapper.base_layer,
        OURS: lambda wrapper: wrapper,
        BF16: partial(DenseDeltaLinear, torch.bfloat16, vector),
        FLOAT32: partial(DenseDeltaLinear, torch.float32, vector),
    }
    wrappers = {name: model.get_submodule(name) for name in restored.wrapped}
    arms = {arm: {n: form(w) for n, w in wrappers.items()} for arm, form in forms.items()}
    generator = torch.Generator().manual_seed(0)
    for batch in BATCHES:
        size = (batch, PROMPT_TOKENS)
        prompts = torch.randint(3, model.config.vocab_size, size, generator=generator)
        decoders = {arm: decoder(model, modules, prompts) for arm, modules in arms.items()}
        timed = alternate({arm: decode for arm, (decode, _) in decoders.items()}, rounds)
        seconds = {arm: median(s) for arm, s in timed.items()}
        for arm, took in seconds.items():
            apart = (decoders[arm][1] - decoders[OURS][1]).abs().max()
            yield ("nf4" if four_bit else "float32", batch, arm, f"{batch * TOKENS / took:.3g}",
                   f"{seconds[BASE] / took:.3f}", f"{took / seconds[OURS]:.2f}",
                   f"{apart:.1e}")  # fmt: skip


def main() -> None:
    options = parser(__doc__, "bench/decode.md", rounds=7)
    options.add_argument("--model", type=Path, required=True, help="made by benchmarks.random_base")
    args = options.parse_args()
    found = [row for four_bit in (False, True) for row in rows(args.model, four_bit, args.rounds)]
    write_page(args.out, __doc__, table(COLUMNS, found))


if __name__ == "__main__":
    main()
