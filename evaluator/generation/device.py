"""The device that a configuration means."""

import torch

from evaluator.errors import ModelError


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """``auto`` to a GPU where there is one, else the CPU; other names as torch has them.

    Where no GPU is named, each process of a machine takes its own as long as there are enough.

    Raises:
        ModelError: A GPU was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name.startswith("cuda") and not available:
        raise ModelError(f"device: {name} was asked for, but torch sees no GPU here")
    if name == "cuda" or (name == "auto" and available):
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("cpu" if name == "auto" else name)
