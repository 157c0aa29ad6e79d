"""Base, export and restored model as exact float32 views, and what is read of them on texts."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.compare.prompts import TokenPrompt
from exporter.formats.encoding import TRAINER_DTYPE
from exporter.plan.base_weights import trained_on
from tinylora import DeltaOptions, FactorStore, Restoration, load_adapter, restore
from tinylora.models.batches import padded
from tinylora.models.embedded_adapter import attach_as_stored
from tinylora.models.float32_view import in_float32
from tinylora.models.pretrained import load_model, trainer_nf4

_POSITIONS_AT_ONCE = 4096


def load_plain(path: Path, **options: Any) -> Any:
    """The model that plain ``from_pretrained`` makes of a directory, on the CPU."""
    # transformers puts 4-bit models on a GPU where there is one, unless it is told
    return load_model(path, device_map="cpu", **options)


def load_exact(path: Path) -> Any:
    """An export, or any checkpoint, as the float32 function that its files say."""
    model = load_plain(path)
    attach_as_stored(model, path)
    return in_float32(model).eval()


def load_base(path: Path, in_4_bits: bool = True, as_stored: bool = False) -> Any:
    """Load a base as training had it, quantized to nf4 unless it is 4-bit already.

    Weights of 16 bits are brought to bfloat16, unless they are taken ``as_stored``.
    """
    if open_checkpoint(path).is_4bit:  # even quantization_config=None would undo its own
        return load_plain(path)
    options: dict[str, Any] = {"dtype": "auto" if as_stored else torch.bfloat16}
    if in_4_bits:
        options["quantization_config"] = trainer_nf4()
    return load_plain(path, **options)


def restored_model(
    base: Path,
    artifact: Path,
    options: DeltaOptions,
    *,
    in_4_bits: bool = True,
    store: FactorStore | None = None,
) -> tuple[Any, Restoration]:
    """The base as training had it, with the adapter.

    An adapter of 16-bit weights is put on the base in 4 bits where the export stands on that: what
    4 bits do to the base itself is no part of the comparison then. Its delta is the trained one.
    """
    adapter = load_adapter(artifact)
    trained = trained_on(adapter, options)
    in_4_bits = in_4_bits or trained == "4bit"  # quantized from bfloat16, as training did
    model = load_base(base, in_4_bits, not (adapter.made_from_weights or in_4_bits))
    weight_of = None
    if in_4_bits and trained == "16bit" and adapter.made_from_weights:
        opened = open_checkpoint(base)
        names = read_architecture(base, opened.config, lambda _: (), opened.tensors).renamed
        opened = opened.renamed(names)

        def weight_of(module: str) -> Tensor:
            return opened.read(f"{module}.weight").to(TRAINER_DTYPE)

    return model, restore(model, adapter, options, store, weight_of=weight_of)


@torch.no_grad()
def inputs_of(
    model: Any, layers: Mapping[str, nn.Module], prompts: Sequence[TokenPrompt]
) -> Mapping[str, Tensor]:
    """What some layers are fed for one batch, ``[texts, positions, in]``, padding included.

    Layers that read one tensor share it.
    """
    seen: dict[str, Tensor] = {}

    def remember(name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen[name] = arguments[0]

    hooks = {layer: partial(remember, name) for name, layer in layers.items()}
    handles = [layer.register_forward_pre_hook(hook) for layer, hook in hooks.items()]
    ids, mask = padded([prompt.token_ids for prompt in prompts])
    try:
        model(ids, attention_mask=mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def head_inputs(model: Any, prompts: Sequence[TokenPrompt]) -> Tensor:
    """Inputs of the output layer at the compared positions, float32 ``[tokens, hidden]``."""
    head = {"head": model.get_output_embeddings()}
    rows = []
    for batch in batches(prompts):
        states = inputs_of(model, head, batch)["head"]
        rows += [states[i, p.first : len(p.token_ids)].float() for i, p in enumerate(batch)]
    return torch.cat(rows)


def batches(prompts: Sequence[TokenPrompt]) -> Iterator[list[TokenPrompt]]:
    """The texts in order, as many at a time as fit some thousand padded positions."""
    batch: list[TokenPrompt] = []
    for prompt in prompts:
        width = max(len(p.token_ids) for p in [*batch, prompt])
        if batch and width * (len(batch) + 1) > _POSITIONS_AT_ONCE:
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch
