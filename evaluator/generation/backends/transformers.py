"""transformers: a model is loaded as its user would, then set what it computes in.

Only the arithmetic is chosen, by default float32, so that arms differ by their weights and not by
the rounding of activations. Loads that silently give another model are refused: ``load_checks``.
"""

import gc
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from evaluator.errors import ModelError
from evaluator.generation.backend import (
    Backend,
    Completion,
    LoadedModel,
    ModelRequest,
    TokenText,
    text_written,
)
from evaluator.generation.checkpoints import delta_options
from evaluator.generation.choice import agreement, choosing
from evaluator.generation.load_checks import (
    check_complete,
    check_quantized,
    compute_in,
)
from evaluator.generation.noise import noise_key
from evaluator.generation.prompts import Batch, Row
from evaluator.generation.text_end import TextEnd
from tinylora import FactorStore, Restoration, load_adapter, restore
from tinylora.errors import RestoreError
from tinylora.models.batches import padded
from tinylora.models.chat import load_tokenizer
from tinylora.models.embedded_adapter import ADAPTER_CONFIG, attach_as_stored
from tinylora.models.float32_view import in_float32
from tinylora.models.predictions import Predictions, predict
from tinylora.models.pretrained import load_model, trainer_nf4

_POSITIONS_AT_ONCE = 8192  # of drafts that are read, with padding
_LOGITS_AT_ONCE = 1 << 27  # 512 MB in float32
_WORTH_READING = 4  # tokens of a draft: reading it again costs less than writing so many


class TransformersBackend(Backend):
    """Models in this process, on CPU or GPU."""

    gives_logits = computes_logits = reads_drafts = pairs_noise = restores = quantizes = True

    @contextmanager
    def load(self, request: ModelRequest) -> Iterator["TransformersModel"]:
        """One arm's model; see :meth:`Backend.load`. TinyLoRAError: the adapter does not fit."""
        gc.freeze()  # what stands already is not looked through when the model goes
        loaded = None
        try:
            loaded = _opened(request)
            yield loaded
        except torch.OutOfMemoryError as error:
            remedy = (
                "the token level compares models in float32, 4 bytes a weight; set "
                "token_level.device: cpu, or token_level.enabled: false"
                if request.as_stored
                else "set a smaller decoding.batch_size, or batch_size of the arm; with several "
                "GPUs, device: all"
            )
            raise ModelError(
                f"arm {request.arm.name}: {request.device} has no room: {remedy}"
            ) from error
        finally:
            if loaded is not None:
                vars(loaded).clear()  # the caller's name for it outlives the with
            gc.collect()  # a 4-bit weight and its layer hold each other
            gc.unfreeze()
            if request.device.type == "cuda":
                torch.cuda.empty_cache()


BACKEND = TransformersBackend()


class TransformersModel(LoadedModel):
    """A model in eval mode with its checkpoint's tokenizer."""

    def __init__(
        self,
        model: PreTrainedModel,
        request: ModelRequest,
        restoration: Restoration | None = None,
    ) -> None:
        self.model = model
        self._restoration = restoration
        self.tokenizer = load_tokenizer(request.checkpoint.directory)
        self._arm, self._decoding, self._seed = request.arm.name, request.decoding, request.seed
        self._positions = request.checkpoint.positions
        self._batch_size = request.arm.batch_size or request.decoding.batch_size
        configured = self.model.generation_config.eos_token_id
        self._end = TextEnd(
            self._arm, self.tokenizer, configured, request.decoding.stop is not None
        )
        own = self.tokenizer.pad_token_id
        self.pad_id = self._end.end_ids[0] if own is None else int(own)

    def complete(
        self, batch: Batch, drafts: Sequence[Sequence[int]] | None = None
    ) -> tuple[Completion, ...]:
        """One completion for each row; ModelError where the logits are not numbers."""
        begun: list[tuple[int, ...]] = [()] * len(batch)
        taken = [0] * len(batch)
        if drafts is not None:
            self._take_over(batch, drafts, begun, taken)
        limit = self._decoding.max_new_tokens
        ended = [*map(self._end.reached, batch, begun)]
        open_rows = [i for i, tokens in enumerate(begun) if not ended[i] and len(tokens) < limit]
        open_rows.sort(key=lambda row: len(begun[row]))  # stable
        while open_rows:
            rows, open_rows = open_rows[: self._batch_size], open_rows[self._batch_size :]
            written = self._write([batch[row] for row in rows], [begun[row] for row in rows])
            for row, tokens in zip(rows, written, strict=True):
                begun[row] = tokens[:limit]
                if len(tokens) < limit and not self._end.reached(batch[row], tokens):
                    open_rows.append(row)  # another row had come to the model's last position
        return tuple(map(self._end.completion, batch, begun, taken))

    def _take_over(
        self,
        batch: Batch,
        drafts: Sequence[Sequence[int]],
        begun: list[tuple[int, ...]],
        taken: list[int],
    ) -> None:
        """Read drafts, and their rest again behind a token that is another, while that helps."""
        longest = self._decoding.max_new_tokens
        known = self.model.get_input_embeddings().weight.shape[0]  # another model may have more
        drafts = [tuple(takewhile(lambda token: token < known, draft)) for draft in drafts]
        rests = {row: draft for row, draft in enumerate(drafts) if draft}
        while rests:
            found, rests = self._read(batch, begun, rests), {}
            for row, agreed, chosen in found:
                before, draft = begun[row], drafts[row]
                read = (*before, *draft[len(before) : len(before) + agreed], *chosen)
                begun[row] = own = self._end.cut(batch[row], read, len(before))
                taken[row] += min(agreed, len(own) - len(before))
                helped = not before or len(own) - len(before) >= _WORTH_READING
                left = min(len(draft), longest) - len(own)
                if helped and left >= _WORTH_READING and not self._end.reached(batch[row], own):
                    rests[row] = draft[len(own) :]

    def _read(
        self,
        batch: Batch,
        begun: Sequence[Sequence[int]],
        rests: Mapping[int, Sequence[int]],
    ) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """For rows: how much this model chooses too of what may follow, and its next choice."""
        prompts = {row: (*batch[row].prompt.token_ids, *begun[row]) for row in rests}
        rows = sorted(rests, key=lambda row: -len(prompts[row]) - len(rests[row]))
        most = _LOGITS_AT_ONCE // self._head().weight.shape[0]  # type: ignore[index]
        longest = max(map(len, rests.values()))
        while rows:
            width = len(prompts[rows[0]]) + len(rests[rows[0]])
            count = max(1, min(_POSITIONS_AT_ONCE // width, most // longest))
            some, rows = rows[:count], rows[count:]
            texts = [text_written(prompts[row], rests[row]) for row in some]
            found = agreement(
                self._arm,
                self._decoding,
                [self._key(batch[row]) for row in some],
                [(batch[row].prompt.token_ids, begun[row]) for row in some],
                [rests[row] for row in some],
                [one.logits for one in self.predict(texts)],
            )
            yield from ((row, *one) for row, one in zip(some, found, strict=True))

    def _write(
        self, batch: Sequence[Row], begun: Sequence[tuple[int, ...]]
    ) -> Iterator[tuple[int, ...]]:
        """The tokens that stand already and what follows them, up to an end."""
        prompts = [(*row.prompt.token_ids, *own) for row, own in zip(batch, begun, strict=True)]
        device = self.model.device
        ids, mask = (part.to(device) for part in padded(prompts, self.pad_id, left=True))
        longest = self._decoding.max_new_tokens - min(map(len, begun))
        if self._positions is not None:
            longest = min(longest, self._positions - ids.shape[1])
        # The model's own generation_config must not add anything to what the run's file says.
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=longest,
            eos_token_id=self._end.end_ids,
            pad_token_id=self.pad_id,
        )
        keys = torch.tensor([self._key(row) for row in batch], device=device)
        offsets = torch.tensor([len(own) for own in begun], device=device) - ids.shape[1]
        with torch.inference_mode():
            sequences = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                logits_processor=choosing(
                    self._arm, self._decoding, keys, offsets, (mask == 0).sum(dim=1)
                ),
                stopping_criteria=self._end.criteria(batch, begun, ids.shape[1]),
            )
        for row, own, tokens in zip(
            batch, begun, sequences[:, ids.shape[1] :].tolist(), strict=True
        ):
            yield self._end.cut(row, (*own, *tokens), len(own))

    def _key(self, row: Row) -> tuple[int, ...]:
        return noise_key(self._seed, row.prompt.problem, row.sample)

    def predict(self, texts: Sequence[TokenText]) -> tuple[Predictions, ...]:
        """See :meth:`LoadedModel.predict`; ModelError where logits are not what they should be."""
        self._head()
        found = predict(self.model, texts)
        for text, one in zip(texts, found, strict=True):
            if one.logits.ndim != 2 or len(one.logits) != len(text.positions):
                raise ModelError(
                    f"arm {self._arm}: expected logits of shape [{len(text.positions)}, "
                    f"vocabulary], found {list(one.logits.shape)}; set token_level.enabled: false"
                )
            if not bool(torch.isfinite(one.logits).all()):
                raise ModelError(
                    f"arm {self._arm}: the model's logits are not all finite; try another "
                    "compute_dtype, and check the checkpoint"
                )
        return found

    def _head(self) -> nn.Module:
        head: nn.Module | None = self.model.get_output_embeddings()
        if head is None:
            raise ModelError(
                f"arm {self._arm}: {type(self.model).__name__} names no output layer; set "
                "token_level.enabled: false and drafts: false"
            )
        return head

    def fold(self) -> None:
        """Add the delta to dense float32 weights; nothing where there is no adapter."""
        if self._restoration is not None:
            in_float32(self.model)  # nothing of it changes but for 4-bit layers, which become dense
            self._restoration.fold()


def _opened(request: ModelRequest) -> TransformersModel:
    model, restoration = _load(request), None
    if request.arm.artifact is not None:
        adapter, options = load_adapter(request.arm.artifact), delta_options(request.arm)
        restoration = restore(model, adapter, options, FactorStore(request.factors))
    if request.as_stored:
        in_float32(model)
    else:
        compute_in(model, getattr(torch, request.compute_dtype))
    model.eval()
    return TransformersModel(model, request, restoration)


def _load(request: ModelRequest) -> PreTrainedModel:
    arm, checkpoint = request.arm, request.checkpoint
    directory, stored = checkpoint.directory, checkpoint.quantization
    quantize = arm.load == "nf4"
    dtype: torch.dtype | str = "auto"  # dense weights are cast afterwards
    if quantize or checkpoint.four_bit:
        # What the trainer's weights were rounded to, and what their quantization state names.
        dtype = torch.bfloat16
    elif stored:
        dtype = request.compute_dtype  # some libraries dequantize while loading
    if (directory / ADAPTER_CONFIG).exists() and importlib.util.find_spec("peft") is None:
        raise ModelError(
            f"arm {arm.name}: {directory} embeds an adapter, and peft is not installed: the base "
            "alone would load. Install peft"
        )
    try:
        model, info = load_model(
            directory,
            dtype=dtype,
            # Even None given here would hide the checkpoint's own quantization.
            **({"quantization_config": trainer_nf4()} if quantize else {}),
            device_map="auto" if request.spread else {"": str(request.device)},
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises whatever a malformed file leads to
        words = f"{type(error).__name__}: {error}"[:1000]
        if stored and isinstance(error, ImportError):
            words = f"quantized with {stored}: a library that this needs is missing here: {words}"
        raise ModelError(f"arm {arm.name}: cannot load {directory}: {words}") from error
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ModelError(
            f"arm {arm.name}: {directory} is larger than all GPUs together: parts of it would wait "
            "on the disk or in other memory; set device: cpu"
        )
    check_complete(arm, directory, info)
    check_quantized(arm, checkpoint, model)
    try:
        attach_as_stored(model, directory)
    except RestoreError as error:
        raise ModelError(f"arm {arm.name}: {error}") from error
    return model
