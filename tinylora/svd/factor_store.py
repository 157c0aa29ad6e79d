"""Factors kept on disk, because those of one base never change.

One safetensors file a weight, named by the digest of the weight, the rank and the method, so bases,
ranks and processes can share a store, and it can be copied from the training machine.
"""

import logging
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tinylora.errors import FactorStoreError
from tinylora.files.whole_file import written_whole
from tinylora.svd.factors import Factors, Method, compute_factors, weight_digest, weight_matrix
from tinylora.weights.quantized_weight import QuantizedWeight

FORMAT = "tinylora-factors/2"

_log = logging.getLogger(__name__)


class FactorStore:
    """A directory of factors, made on the first write."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def path(self, digest: str, rank: int, method: Method) -> Path:
        """File of one weight's factors."""
        return self.directory / f"{digest[:40]}-r{rank}-{method}.safetensors"

    def make_directory(self) -> None:
        """Make sure that it is there, with a FactorStoreError where it cannot be."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _store_error(self.directory, error) from error

    def get(self, digest: str, rank: int, method: Method, shape: tuple[int, int]) -> Factors | None:
        """Factors of a weight with this digest and shape ``(out, in)``; None if none or damaged.

        Raises:
            FactorStoreError: The file is there and cannot be read.
        """
        path = self.path(digest, rank, method)
        try:
            if not path.exists():
                return None
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if about.get("format") != FORMAT or about.get("digest") != digest:
                raise ValueError("it holds other factors than its name says")
            if not _are_factors(tensors, rank, shape) or "lapack" not in about:
                found = {name: [tensor.dtype, *tensor.shape] for name, tensor in tensors.items()}
                raise ValueError(f"found {found}, expected finite factors of rank {rank}, {shape}")
        except (SafetensorError, ValueError) as error:
            _log.warning("%s is damaged (%s); computing these factors again", path, error)
            return None
        except OSError as error:
            raise _store_error(path, error) from error
        return Factors(**tensors, method=method, lapack=about["lapack"])

    def put(self, digest: str, factors: Factors) -> None:
        """Store factors; a reader sees all of the file or none. FactorStoreError if that fails."""
        self.make_directory()
        path = self.path(digest, factors.rank, factors.method)
        tensors = {name: getattr(factors, name) for name in ("U", "S", "Vh", "spectrum")}
        about = {"format": FORMAT, "digest": digest, "lapack": factors.lapack}
        try:
            with written_whole(path, shared=True) as temporary:
                temporary.touch(exist_ok=False)
                mode = stat.S_IMODE(temporary.stat().st_mode)
                save_file(tensors, temporary, metadata=about)
                temporary.chmod(mode)  # the umask's; safetensors lets no one else read its files
        except (OSError, SafetensorError) as error:  # a full disk comes as the latter
            raise _store_error(path, error) from error


def _are_factors(tensors: Mapping[str, Tensor], rank: int, shape: tuple[int, int]) -> bool:
    """Whether an entry holds what :class:`Factors` says of it."""
    shapes = {"U": (shape[0], rank), "S": (rank,), "Vh": (rank, shape[1])}
    if tensors.keys() != shapes.keys() | {"spectrum"}:
        return False
    spectrum = tensors["spectrum"]
    return (
        all(tensors[name].shape == wanted for name, wanted in shapes.items())
        and spectrum.dim() == 1
        and spectrum.numel() >= rank
        and all(t.dtype == torch.float32 for t in tensors.values())
        and all(bool(torch.isfinite(t).all()) for t in tensors.values())
    )


def _store_error(path: Path, error: Exception) -> FactorStoreError:
    """What to raise where a file cannot be read or written."""
    return FactorStoreError(
        f"{path}: the factor store cannot be used ({error}); choose another directory for it, make "
        "room, or do without"
    )


def factors_of(
    weight: QuantizedWeight | Tensor, rank: int, method: Method, store: FactorStore | None
) -> Factors:
    """Factors of a weight, from the store where it has them, else computed and stored."""
    if store is None:
        return compute_factors(weight_matrix(weight), rank, method)
    digest = weight_digest(weight)
    found = store.get(digest, rank, method, (weight.shape[0], weight.shape[1]))
    if found is None:
        found = compute_factors(weight_matrix(weight), rank, method)
        store.put(digest, found)
    return found
