"""A generation backend: prompts in, completions out; CONTRIBUTING.md says how one is added."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from evaluator.config.run_config import ArmConfig, ComputeDtype, DecodingConfig
from evaluator.generation.checkpoints import Checkpoint
from evaluator.generation.prompts import Batch
from evaluator.store.records import FinishReason


@dataclass(frozen=True)
class ModelRequest:
    """Which model to load, and how it will be used.

    The decoding's repetition penalty is a number; ``factors`` keeps SVD factors between starts.
    ``as_stored`` asks for the float32 function that the files say, for the token level; what the
    arm computes in is of no account then.
    """

    arm: ArmConfig
    checkpoint: Checkpoint
    decoding: DecodingConfig
    seed: int
    compute_dtype: ComputeDtype
    device: torch.device
    factors: Path
    as_stored: bool = False


class Completion(NamedTuple):
    """What a model wrote; the fields are those of ``GenerationRecord``."""

    text: str
    token_count: int
    finish_reason: FinishReason


@dataclass(frozen=True)
class TokenText:
    """A text and its positions, ascending, at which predictions of the next token are wanted."""

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]


class LoadedModel(ABC):
    """A model in memory."""

    @abstractmethod
    def complete(self, batch: Batch) -> Sequence[Completion]:
        """One completion for each row of a batch, in its order; ModelError where it is nonsense."""

    def logits(self, texts: Sequence[TokenText]) -> tuple[Tensor, ...]:
        """For each text logits [positions, vocabulary]; only where the backend gives logits."""
        raise NotImplementedError

    def fold(self) -> None:
        """Have the adapter in the dense weights of a model ``as_stored`` from now on, likewise."""
        raise NotImplementedError


class Backend(ABC):
    """A way to run models.

    Attributes:
        gives_logits: It has :meth:`LoadedModel.logits`, which the token level needs.
        pairs_noise: All arms draw with the numbers of ``evaluator.generation.noise``.
        restores: It can quantize while loading (``load: nf4``) and put an adapter on a base.
    """

    gives_logits: ClassVar[bool] = False
    pairs_noise: ClassVar[bool] = False
    restores: ClassVar[bool] = False

    @abstractmethod
    def load(self, request: ModelRequest) -> AbstractContextManager[LoadedModel]:
        """A model, in memory only inside the ``with``; ModelError where it would be another one."""
