"""The processes that make one run together, started by ``accelerate launch`` or ``torchrun``.

Each writes its share of the completions into a file of its own; the first one does the rest.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils.environment import get_cpu_distributed_information
from torch import Tensor

from evaluator.errors import LaunchError, ModelError

logger = logging.getLogger(__name__)

# A process that dies is noticed at once; this is for a machine that vanishes from the network.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """This process among the ``world`` of its launch; ``local_rank`` counts on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    # It lives until the connection is closed: gloo's threads let go of a tensor after the call that
    # sent it, the last to do so waits for the interpreter, and closing waits for gloo's threads.
    _said: Tensor = field(
        default_factory=lambda: torch.zeros(1, dtype=torch.int64), repr=False, compare=False
    )

    @property
    def is_first(self) -> bool:
        """Whether this process does what is done once."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes have come here; LaunchError where one ended before."""
        if self.world == 1:
            return
        with self._together():
            PartialState().wait_for_everyone()

    def agree(self, number: int) -> int:
        """What the first process says; nobody goes on before all have heard it. Errors as above."""
        if self.world == 1:
            return number
        self._said.fill_(number)
        with self._together():
            torch.distributed.broadcast(self._said, src=0)
            PartialState().wait_for_everyone()
        return int(self._said)

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch.distributed says so in several classes below it
            raise LaunchError(
                f"process {self.rank} of {self.world}: another process of this run ended early; "
                "its own message says why. What was written is kept: start the same command again"
            ) from error


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """``auto`` to a GPU where there is one, else the CPU; other names as torch has them.

    Where no GPU is named, each process of a machine takes its own as long as there are enough.
    ``all`` is where a model that is spread over GPUs begins; without a GPU it is the CPU.
    """
    available = torch.cuda.is_available()
    if name == "all" and available:
        if local_rank:
            raise ModelError(
                "device: all spreads each model over all GPUs, and several processes of this "
                "machine would share them; start one process, or set device: auto"
            )
        return torch.device("cuda:0")
    if name.startswith("cuda") and not available:
        raise ModelError(f"device: {name} was asked for, but torch sees no GPU here")
    if name == "cuda" or (name == "auto" and available):
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("cpu" if name in ("auto", "all") else name)


@contextmanager
def launched_processes() -> Iterator[Processes]:
    """The processes of this launch; one that was started alone pays nothing for it.

    They talk over the CPU only (gloo), so any number of them may use one GPU.
    """
    world = get_cpu_distributed_information().world_size
    if world == 1:
        yield Processes()
        return
    logger.info("waiting for the %d processes of this launch", world)
    state = PartialState(cpu=True, timeout=_PATIENCE)
    processes = Processes(state.process_index, state.num_processes, state.local_process_index)
    try:
        yield processes
    finally:
        state.destroy_process_group()
