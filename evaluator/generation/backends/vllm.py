"""vllm: models in vLLM, which is started here and draws with the noise of all arms.

vLLM fills every place of its batches that becomes free, so a batch here is one row. A logits
processor makes each choice by the rules of the transformers backend: arms stay paired, up to the
rounding of vLLM's kernels. A LoRA is put on its base at run time. Models ``as_stored``, which the
token level compares, are loaded by transformers.
"""

import importlib.metadata
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from evaluator.config.run_config import ArmConfig, DecodingConfig
from evaluator.errors import ConfigError, ModelError
from evaluator.generation.backend import (
    Asked,
    Backend,
    Completion,
    Drafts,
    LoadedModel,
    Made,
    ModelRequest,
)
from evaluator.generation.backends import transformers
from evaluator.generation.checkpoints import Checkpoint, own_end_tokens
from evaluator.generation.choice import choose
from evaluator.generation.noise import noise_key
from evaluator.generation.prompts import Batch, Row
from evaluator.generation.text_end import TextEnd
from evaluator.store.run_directory import ArmFacts
from tinylora import load_adapter
from tinylora.models.chat import load_tokenizer
from tinylora.models.embedded_adapter import ADAPTER_CONFIG

# vLLM reads these when it is imported: stdout is for results, the engine has a process of its own,
# and of the two model runners only the first, not the default on GPUs, has such logits processors.
os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="1", VLLM_USE_V2_MODEL_RUNNER="0")

from vllm import EngineArgs, LLMEngine, SamplingParams  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.v1.sample.logits_processor import (  # noqa: E402
    BatchUpdate,
    LogitsProcessor,
    process_dict_updates,
)

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM has room
_RUN = "tinylora_run"  # key of the run's process, for PairedChoice
_POLL_S = 0.005  # while an answer is waited for
_ORPHAN_POLL_S = 1.0


class VllmBackend(Backend):
    """Models in vLLM."""

    gives_logits = pairs_noise = restores = by_row = True

    def describe(self, arm: ArmConfig, asked: Asked, files: Checkpoint | None) -> ArmFacts:
        """The checkpoint's facts; ConfigError where vLLM would run another model than is meant."""
        if files is not None and (files.directory / ADAPTER_CONFIG).exists():
            raise ConfigError(
                f"arm {arm.name}: {files.directory} embeds an adapter, which vLLM does not load; "
                "tinylora-export split makes a base and an adapter of it: give them as model and "
                "artifact of a restored arm"
            )
        if arm.artifact is not None:
            sizes = load_adapter(arm.artifact).sizes
            if sizes.u or sizes.rank > _RANKS[-1]:
                raise ConfigError(
                    f"arm {arm.name}: {arm.artifact}: vLLM puts a LoRA of rank {_RANKS[-1]} or "
                    "less on a base, and nothing else; make one by tinylora-export merge --format "
                    "lora"
                )
        return super().describe(arm, asked, files)

    @contextmanager
    def load(self, request: ModelRequest) -> Iterator[LoadedModel]:
        """See :meth:`Backend.load`; the engine is a process of its own, and ends with it."""
        if request.as_stored:
            with transformers.BACKEND.load(request) as model:
                yield model
            return
        where, device = f"arm {request.arm.name}", request.device
        if (current_platform.device_type, 0) != (device.type, device.index or 0):
            raise ModelError(
                f"{where}: device is {device}, and vLLM computes on the first "
                f"{current_platform.device_type} device; set device, or CUDA_VISIBLE_DEVICES"
            )
        rank = 0 if request.arm.artifact is None else load_adapter(request.arm.artifact).sizes.rank
        settings = EngineArgs(
            model=str(request.checkpoint.directory),
            dtype=request.compute_dtype,
            max_model_len=request.longest,
            max_num_seqs=request.arm.batch_size or request.decoding.batch_size,
            skip_tokenizer_init=True,  # tokens go in, tokens come out
            generation_config="vllm",  # the run's file alone says how texts are drawn
            logits_processors=[PairedChoice],
            async_scheduling=False,  # a choice may depend on all tokens before it
            enable_lora=bool(rank),
            max_lora_rank=next(most for most in _RANKS if most >= rank),
            additional_config={_RUN: os.getpid()},
        )
        try:
            engine = LLMEngine.from_engine_args(settings)
        except Exception as error:  # whatever the model's code or the device leads to
            raise ModelError(
                f"{where}: vLLM cannot load {request.checkpoint.directory}: {_words(error)}"
            ) from error
        try:
            yield VllmModel(engine, request)
        finally:
            engine.engine_core.shutdown()


BACKEND = VllmBackend()


class VllmModel(LoadedModel):
    """A model in vLLM's engine."""

    def __init__(self, engine: LLMEngine, request: ModelRequest) -> None:
        self._engine, self._request = engine, request
        directory, decoding = request.checkpoint.directory, request.decoding
        self._end = TextEnd(
            request.arm.name,
            load_tokenizer(directory),
            own_end_tokens(request.checkpoint),
            decoding.stop is not None,
        )
        artifact = request.arm.artifact
        self._adapter = None if artifact is None else LoRARequest("adapter", 1, str(artifact))
        self._named = f"vllm {importlib.metadata.version('vllm')}"

    def complete(self, batch: Batch, drafts: object = None) -> Sequence[Completion]:
        """All rows of a batch together."""
        made = {
            (row.prompt.problem, row.sample): completion
            for (row,), (completion,), _ in self.complete_all([(row,) for row in batch])
        }
        return [made[row.prompt.problem, row.sample] for row in batch]

    def complete_all(
        self, batches: Sequence[Batch], drafts: Drafts | None = None
    ) -> Iterator[Made]:
        """Hand all rows to the engine; each is given when it is done."""
        since, rows = time.monotonic(), [row for batch in batches for row in batch]
        for number, tokens in self._written(rows):
            row, now = rows[number], time.monotonic()
            made = self._end.completion(row, tokens)
            yield Made((row,), [made._replace(engine=self._named)], now - since)
            since = now

    def _written(self, rows: Sequence[Row]) -> Iterator[tuple[int, Sequence[int]]]:
        """Number and tokens, up to their end, of each row that is done.

        ModelError where the engine fails.
        """
        engine, adapter = self._engine, self._adapter
        try:
            for number, row in enumerate(rows):
                prompt = {"prompt_token_ids": list(row.prompt.token_ids)}
                engine.add_request(str(number), prompt, self._sampling(row), lora_request=adapter)
            while engine.has_unfinished_requests():
                while engine.engine_core.outputs_queue.empty():  # it would wait for a dead engine
                    engine.engine_core.ensure_alive()
                    time.sleep(_POLL_S)
                for answer in engine.step():
                    number, made = int(answer.request_id), answer.outputs[0]
                    if self._end.reached(rows[number], made.token_ids) and not answer.finished:
                        engine.abort_request([answer.request_id])
                    elif not answer.finished:
                        continue
                    elif made.finish_reason not in ("stop", "length"):
                        raise RuntimeError(f"a text ended by {made.finish_reason}")
                    yield number, made.token_ids
        except Exception as error:  # as for loading
            raise ModelError(
                f"arm {self._request.arm.name}: vLLM stopped: {_words(error)}. Its own words stand "
                "above; what is written is kept"
            ) from error

    def _sampling(self, row: Row) -> SamplingParams:
        request = self._request
        choice = {
            "arm": request.arm.name,
            "decoding": request.decoding.model_dump(),
            "key": noise_key(request.seed, row.prompt.problem, row.sample),
        }
        shown = RequestOutputKind.FINAL_ONLY
        if request.decoding.stop is not None:  # which only this side sees
            shown = RequestOutputKind.CUMULATIVE
        return SamplingParams(
            temperature=0,  # PairedChoice has drawn
            max_tokens=request.decoding.max_new_tokens,
            stop_token_ids=self._end.end_ids,
            detokenize=False,
            output_kind=shown,
            extra_args=choice,
        )


class PairedChoice(LogitsProcessor):  # type: ignore[misc]
    """Leaves of each row's logits only the token that the run's rules choose."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, tuple[dict[str, Any], list[int], list[int]]] = {}
        run = vllm_config.additional_config[_RUN]
        threading.Thread(target=_end_with, args=(run,), daemon=True).start()

    def is_argmax_invariant(self) -> bool:
        """It chooses."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the rows that come, go and change places; their tokens grow by themselves."""
        process_dict_updates(
            self._rows,
            batch_update,
            lambda params, prompt, written: (params.extra_args or {}, prompt or [], written),
        )

    def apply(self, logits: Tensor) -> Tensor:
        """Logits ``[rows, vocabulary]``: 0 for the chosen token, −inf for all others."""
        rows = [self._rows[number] for number in range(len(logits))]
        (settings, *_), *_ = rows
        chosen = choose(
            settings["arm"],
            DecodingConfig(**settings["decoding"]),
            [own["key"] for own, _, _ in rows],
            [(prompt, written) for _, prompt, written in rows],
            logits,
        )
        return torch.full_like(logits, -torch.inf).scatter_(1, chosen.unsqueeze(1), 0.0)


def _end_with(run: int) -> None:
    """End the engine's processes, this one too, when a run was killed: they hold the device."""
    while _exists(run):
        time.sleep(_ORPHAN_POLL_S)
    parent = multiprocessing.parent_process()  # the engine, where this is a worker of it
    if parent is not None and run != parent.pid == os.getppid():
        os.kill(parent.pid, signal.SIGKILL)
    os._exit(1)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:1000]
