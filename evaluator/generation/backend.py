"""What a generation backend is: prompts in, completions out, and what it can do besides.

CONTRIBUTING.md, "Adding a generation backend", says how one is added.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from evaluator.config.run_config import ArmConfig, ComputeDtype, DecodingConfig
from evaluator.generation.batches import Batch
from evaluator.generation.checkpoints import Checkpoint
from evaluator.store.records import FinishReason


@dataclass(frozen=True)
class ModelRequest:
    """Which model to load, and how it will be used.

    Attributes:
        decoding: How completions are drawn; the repetition penalty is a number.
        seed: Of the random numbers; the arm's, or else the decoding's.
        factors: Directory in which SVD factors of the base are kept between starts.
    """

    arm: ArmConfig
    checkpoint: Checkpoint
    decoding: DecodingConfig
    seed: int
    compute_dtype: ComputeDtype
    device: torch.device
    factors: Path


@dataclass(frozen=True)
class Completion:
    """What a model wrote; the fields are those of ``GenerationRecord``."""

    text: str
    token_count: int
    finish_reason: FinishReason


class TokenText(Protocol):
    """A text whose predictions are wanted: its tokens, and at which positions (ascending)."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The text."""

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions whose predictions of the next token are wanted."""


class LoadedModel(ABC):
    """A model in memory."""

    @abstractmethod
    def complete(self, batch: Batch) -> Sequence[Completion]:
        """One completion for each row of a batch, in its order.

        Raises:
            GenerationError: The model's completions make no sense.
        """

    def logits(self, texts: Sequence[TokenText]) -> tuple[Tensor, ...]:
        """For each text logits [positions, vocabulary]; only where the backend gives logits."""
        raise NotImplementedError


class Backend(ABC):
    """A way to run models.

    Attributes:
        gives_logits: It has :meth:`LoadedModel.logits`, which the token level needs.
        pairs_noise: Where it samples, all arms draw with the random numbers of
            ``evaluator.generation.noise``, which are a function of seed, problem and sample.
        restores: It can quantize while loading (``load: nf4``) and put an adapter on a base (arms
            of kind ``restored``).
    """

    gives_logits: ClassVar[bool] = False
    pairs_noise: ClassVar[bool] = False
    restores: ClassVar[bool] = False

    @abstractmethod
    def load(self, request: ModelRequest) -> AbstractContextManager[LoadedModel]:
        """A model, in memory only inside the ``with``.

        Raises:
            ModelError: It cannot be loaded, or would load as something else.
        """
