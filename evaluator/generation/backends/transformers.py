"""transformers: a model is loaded as its user would, then set what it computes in.

Only the arithmetic is chosen, by default float32, so that arms differ by their weights and not by
the rounding of activations. Loads that silently give another model are refused: ``load_checks``.
"""

import gc
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from evaluator.errors import ModelError
from evaluator.generation.backend import (
    Backend,
    Completion,
    LoadedModel,
    ModelRequest,
    TokenText,
)
from evaluator.generation.checkpoints import delta_options
from evaluator.generation.load_checks import (
    check_complete,
    check_quantized,
    compute_in,
)
from evaluator.generation.noise import gumbel_noise, noise_key
from evaluator.generation.prompts import Batch
from tinylora import FactorStore, Restoration, load_adapter, restore
from tinylora.errors import RestoreError
from tinylora.models.batches import padded
from tinylora.models.chat import load_tokenizer
from tinylora.models.embedded_adapter import ADAPTER_CONFIG, attach_as_stored
from tinylora.models.float32_view import in_float32
from tinylora.models.trainer_nf4 import trainer_nf4


class TransformersBackend(Backend):
    """Models in this process, on CPU or GPU."""

    gives_logits = pairs_noise = restores = True

    @contextmanager
    def load(self, request: ModelRequest) -> Iterator["TransformersModel"]:
        """One arm's model; see :meth:`Backend.load`. TinyLoRAError: the adapter does not fit."""
        arm = request.arm
        model, restoration = _load(request), None
        if arm.artifact is not None:
            adapter, options = load_adapter(arm.artifact), delta_options(arm)
            restoration = restore(model, adapter, options, FactorStore(request.factors))
        if request.as_stored:
            _in_float32(model, request)
        else:
            compute_in(model, getattr(torch, request.compute_dtype))
        model.eval()
        try:
            yield TransformersModel(model, request, restoration)
        finally:
            del model, restoration
            gc.collect()
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
        configured = self.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self.end_ids = sorted({i for i in (*ends, self.tokenizer.eos_token_id) if i is not None})
        if not self.end_ids:
            raise ModelError(
                f"arm {self._arm}: neither generation_config.json nor the tokenizer names an end "
                "token (eos_token_id)"
            )
        own = self.tokenizer.pad_token_id
        self.pad_id = self.end_ids[0] if own is None else int(own)

    def complete(self, batch: Batch) -> tuple[Completion, ...]:
        """One completion for each row; ModelError where the logits are not numbers."""
        prompts = [row.prompt.token_ids for row in batch]
        device = self.model.device
        ids, mask = (part.to(device) for part in padded(prompts, self.pad_id, left=True))
        # The model's own generation_config must not add anything to what the run's file says.
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self._decoding.max_new_tokens,
            eos_token_id=self.end_ids,
            pad_token_id=self.pad_id,
            # Comes before the processors below, and leaves padding out of what was said.
            repetition_penalty=self._decoding.repetition_penalty,
        )
        with torch.inference_mode():
            sequences = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                logits_processor=self._processors(batch, ids.shape[1]),
            )
        return tuple(self._completion(row) for row in sequences[:, ids.shape[1] :].tolist())

    @torch.inference_mode()
    def logits(self, texts: Sequence[TokenText]) -> tuple[Tensor, ...]:
        """For each text logits [positions, vocabulary] in the dtype and on the device of the model.

        Only wanted positions go through the output layer: those of a whole batch take gigabytes.
        """
        # In a causal model the padding at the end cannot change what is before it.
        tokens = [text.token_ids for text in texts]
        ids, mask = (part.to(self.model.device) for part in padded(tokens))
        rows = [row for row, text in enumerate(texts) for _ in text.positions]
        columns = [position for text in texts for position in text.positions]
        head: nn.Module | None = self.model.get_output_embeddings()
        if head is None:
            raise ModelError(
                f"arm {self._arm}: {type(self.model).__name__} names no output layer; set "
                "token_level.enabled: false"
            )

        def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            states, *others = arguments  # [texts, width, hidden] to [1, wanted, hidden]
            return states[rows, columns].unsqueeze(0), *others

        handle = head.register_forward_pre_hook(select)
        try:
            logits: Tensor = self.model(ids, attention_mask=mask, use_cache=False).logits
        finally:
            handle.remove()
        if logits.shape[:2] != (1, len(rows)):
            raise ModelError(
                f"arm {self._arm}: expected logits of shape [1, {len(rows)}, vocabulary], found "
                f"{list(logits.shape)}; set token_level.enabled: false"
            )
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(
                f"arm {self._arm}: the model's logits are not all finite; try another "
                "compute_dtype, and check the checkpoint"
            )
        return torch.split(logits[0], [len(text.positions) for text in texts])

    def fold(self) -> None:
        """Add the delta to the weights; nothing where there is no adapter."""
        if self._restoration is not None:
            self._restoration.fold()

    def _processors(self, batch: Batch, prompt_length: int) -> LogitsProcessorList:
        decoding = self._decoding
        if decoding.temperature == 0:
            return LogitsProcessorList([_Temperature(self._arm, 1.0)])
        processors: list[LogitsProcessor] = [_Temperature(self._arm, decoding.temperature)]
        if decoding.top_k:
            processors.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1:
            processors.append(TopPLogitsWarper(decoding.top_p))
        keys = [noise_key(self._seed, row.prompt.problem, row.sample) for row in batch]
        processors.append(_GumbelNoise(torch.tensor(keys, device=self.model.device), prompt_length))
        return LogitsProcessorList(processors)

    def _completion(self, tokens: list[int]) -> Completion:
        ends = [i for i, token in enumerate(tokens) if token in self.end_ids]
        written = tokens[: ends[0]] if ends else tokens
        text = self.tokenizer.decode(
            written, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return Completion(text, len(written) + bool(ends), "stop" if ends else "length")


def _in_float32(model: PreTrainedModel, request: ModelRequest) -> None:
    try:
        in_float32(model)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"arm {request.arm.name}: the token level compares models in float32, 4 bytes a "
            f"weight, and {request.device} has no room for that; set token_level.device: cpu"
        ) from error


class _Temperature(LogitsProcessor):  # type: ignore[misc]
    """Divides float64 logits by the temperature, and stops at logits that are not numbers."""

    def __init__(self, arm: str, temperature: float) -> None:
        self.arm = arm
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if bool(torch.isnan(scores).any()):
            raise ModelError(
                f"arm {self.arm}: the model's logits are not numbers (NaN); try another "
                "compute_dtype, and check the checkpoint"
            )
        return scores.double() / self.temperature


class _GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Adds the noise of each row and position, so that greedy decoding draws a sample."""

    def __init__(self, keys: Tensor, prompt_length: int) -> None:
        self.keys = keys
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V] to scores plus noise; a token that is ruled out (−inf) stays so."""
        position = input_ids.shape[1] - self.prompt_length
        return scores + gumbel_noise(self.keys, position, scores.shape[-1])


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
        model, info = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            # Even None given here would hide the checkpoint's own quantization.
            **({"quantization_config": trainer_nf4()} if quantize else {}),
            device_map={"": str(request.device)},
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:  # transformers raises whatever a malformed file leads to
        words = f"{type(error).__name__}: {error}"[:1000]
        if stored and isinstance(error, ImportError):
            words = f"quantized with {stored}: a library that this needs is missing here: {words}"
        raise ModelError(f"arm {arm.name}: cannot load {directory}: {words}") from error
    check_complete(arm, directory, info)
    check_quantized(arm, checkpoint, model)
    try:
        attach_as_stored(model, directory)
    except RestoreError as error:
        raise ModelError(f"arm {arm.name}: {error}") from error
    return model
