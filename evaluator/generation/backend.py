"""A generation backend: prompts in, completions out; CONTRIBUTING.md says how one is added."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from evaluator.config.run_config import ArmConfig, ComputeDtype, DecodingConfig
from evaluator.generation.checkpoints import Checkpoint
from evaluator.generation.prompts import Batch, Prompt
from evaluator.store.records import FinishReason
from evaluator.store.run_directory import ArmFacts
from tinylora.models.predictions import Predictions

Drafts = Mapping[tuple[str, int], tuple[int, ...]]  # tokens by problem and sample


@dataclass(frozen=True)
class ModelRequest:
    """Which model to load, and how it will be used.

    The decoding's repetition penalty is a number or None; ``factors`` keeps SVD factors between
    starts. ``as_stored`` asks for the float32 function that the files say, for the token level;
    what the arm computes in is of no account then. ``spread``: over all GPUs, from ``device`` on.
    ``engine`` is what made the arm's earlier texts, if any. No text will be longer than ``longest``
    tokens, prompt included, where that is known.
    """

    arm: ArmConfig
    facts: ArmFacts
    files: Checkpoint | None
    decoding: DecodingConfig
    seed: int
    compute_dtype: ComputeDtype
    device: torch.device
    factors: Path
    as_stored: bool = False
    spread: bool = False
    engine: str = ""
    longest: int | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint's files, of an arm that has a model here."""
        assert self.files is not None  # it is the backend's source, which is checked
        return self.files


@dataclass(frozen=True)
class Asked:
    """What will be asked of every arm; ``suite`` has all ids, also of what is not asked."""

    prompts: tuple[Prompt, ...]
    decoding: DecodingConfig
    suite: frozenset[str]


class Completion(NamedTuple):
    """What a model wrote.

    Attributes:
        text: As for ``GenerationRecord``, and so the next two.
        tokens: All that were generated, the end token included; empty where they are not known.
        taken_over: How many of them are those of a draft, and were read.
        engine: What an engine elsewhere says it is, likewise.
    """

    text: str
    token_count: int
    finish_reason: FinishReason
    tokens: tuple[int, ...] = ()
    taken_over: int = 0
    engine: str = ""


class Made(NamedTuple):
    """A batch's completions in its order, and the seconds that they took."""

    batch: Batch
    completions: Sequence[Completion]
    seconds: float


@dataclass(frozen=True)
class TokenText:
    """A text and its positions, ascending, at which predictions of the next token are wanted."""

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]


def text_written(prompt: Sequence[int], written: Sequence[int]) -> TokenText:
    """What follows a prompt, with every position that predicts a token of it."""
    first = len(prompt) - 1
    return TokenText((*prompt, *written[:-1]), tuple(range(first, first + len(written))))


class LoadedModel(ABC):
    """A model in memory."""

    @abstractmethod
    def complete(
        self, batch: Batch, drafts: Sequence[Sequence[int]] | None = None
    ) -> Sequence[Completion]:
        """One completion for each row of a batch, in its order; ModelError where it is nonsense.

        ``drafts``, only where the backend reads them, are tokens of another model for each row,
        drawn with the same noise: what this model would write too is not written again.
        """

    def complete_all(
        self, batches: Sequence[Batch], drafts: Drafts | None = None
    ) -> Iterator[Made]:
        """Complete batches, by default one after the other; each is given when it is done."""
        for batch in batches:
            start = time.monotonic()
            if drafts is None:
                completions = self.complete(batch)
            else:
                own = [drafts.get((row.prompt.problem, row.sample), ()) for row in batch]
                completions = self.complete(batch, own)
            yield Made(batch, completions, time.monotonic() - start)

    def predict(self, texts: Sequence[TokenText]) -> tuple[Predictions, ...]:
        """Predictions at each text's positions; only where the backend gives logits."""
        raise NotImplementedError

    def fold(self) -> None:
        """Have the adapter in dense weights from now on; only where a model computes in float32."""
        raise NotImplementedError


class Backend(ABC):
    """A way to run models.

    Attributes:
        gives_logits: A model ``as_stored`` has :meth:`LoadedModel.predict`, which the token level
            needs.
        computes_logits: So has a model that computes as the run says.
        reads_drafts: It takes over from a draft what a model would have written itself.
        pairs_noise: All arms draw with the numbers of ``evaluator.generation.noise``.
        restores: It can put an adapter on a base.
        quantizes: It can quantize while loading (``load: nf4``).
        source: Field of an arm that says where its model or texts are.
        by_row: It makes its own batches, if any, so that only missing rows are asked for.
    """

    gives_logits: ClassVar[bool] = False
    computes_logits: ClassVar[bool] = False
    reads_drafts: ClassVar[bool] = False
    pairs_noise: ClassVar[bool] = False
    restores: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False
    source: ClassVar[str] = "model"
    by_row: ClassVar[bool] = False

    def describe(self, arm: ArmConfig, asked: Asked, files: Checkpoint | None) -> ArmFacts:
        """Facts of an arm; an error where it cannot be what is asked.

        Without a model directory (``files`` is None) the backend itself has to know them.
        """
        if files is None:
            raise NotImplementedError
        return files.facts

    @abstractmethod
    def load(self, request: ModelRequest) -> AbstractContextManager[LoadedModel]:
        """A model, in memory only inside the ``with``; ModelError where it would be another one."""
