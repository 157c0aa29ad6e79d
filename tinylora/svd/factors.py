"""Leading singular triplets of a frozen weight.

``exact``: the trainer's routine (LAPACK ``gesdd`` on the CPU, float32, all singular values), so
that the relative signs of the singular pairs are the trainer's. Another LAPACK or algorithm flips
a relative sign in 5 to 20 % of matrices; that changes ΔW of ``full``, and not of ``diagonal``.

``fast``: a block Krylov method (Musco and Musco, 2015, arXiv:1504.05477) from fixed numbers, until
the residuals are at float32's rounding; for a flat spectrum or a small matrix, the eigenvectors of
the float64 Gram matrix. It runs on the weight's own device.
"""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from blake3 import blake3
from torch import Tensor

from tinylora.errors import FactorizationError
from tinylora.weights.quantized_weight import QuantizedWeight, tensor_bytes

Method = Literal["exact", "fast"]

SPECTRUM_MARGIN = 8
"""Singular values kept beyond the cut, to show the gap there."""

_OVERSAMPLING = 6
_MAX_STEPS = 41
_STEPS_BETWEEN_CHECKS = 4
_RESIDUAL = 1e-5


@dataclass(frozen=True, eq=False)
class Factors:
    """Truncated SVD ``W ≈ U diag(S) Vh``: fp32 ``[out, r]``, ``[r]`` descending, ``[r, in]``.

    Attributes:
        spectrum: fp32 ``[k]``, the leading singular values, k > r unless the matrix ends there.
        method: Which path made them.
        lapack: Library that computed them.
    """

    U: Tensor
    S: Tensor
    Vh: Tensor
    spectrum: Tensor
    method: Method
    lapack: str

    @property
    def rank(self) -> int:
        """Rank r of the cut."""
        return self.S.numel()

    @property
    def gap_at_cut(self) -> float:
        """(σᵣ − σᵣ₊₁)/σᵣ; near 0 the kept subspace itself is arbitrary. NaN for σᵣ = 0."""
        return self.relative_gaps()[-1]

    @property
    def smallest_inner_gap(self) -> float:
        """Least (σₖ − σₖ₊₁)/σₖ for k < r; near 0 those directions are arbitrary. 1.0 for r = 1."""
        return min(self.relative_gaps()[:-1], default=1.0)

    def relative_gaps(self) -> list[float]:
        """(σₖ − σₖ₊₁)/σₖ for k = 1 … r."""
        values = [*self.spectrum.double().tolist(), 0.0]
        return [
            (a - b) / a if a > 0 else float("nan")
            for a, b in zip(values[: self.rank], values[1:], strict=False)
        ]


def weight_matrix(weight: QuantizedWeight | Tensor) -> Tensor:
    """W as the forward pass sees it, float32 ``[out, in]``; of 4 bits rounded to its dtype."""
    dense = weight.dequantize() if isinstance(weight, QuantizedWeight) else weight.detach()
    return dense.float()


def weight_digest(weight: QuantizedWeight | Tensor) -> str:
    """BLAKE3 (hex) of what decides the values of a weight."""
    if isinstance(weight, QuantizedWeight):
        return weight.digest()
    digest = blake3(f"dense\0{weight.dtype}{list(weight.shape)}".encode())
    digest.update(tensor_bytes(weight))
    return digest.hexdigest()


def exact_factors(W: Tensor, rank: int) -> Factors:
    """The trainer's own decomposition of ``[out, in]``, on the CPU in float32.

    A FactorizationError of a rank above min(out, in), W not finite, or LAPACK not converging.
    """
    W = W.detach().to("cpu", torch.float32)
    _check_input(W, rank)
    try:
        U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise FactorizationError(
            f"the SVD of a {list(W.shape)} weight did not converge ({error}), as it did in "
            "training; the base is damaged or another one"
        ) from error
    return _truncated(U, S, Vh, rank, "exact")


def fast_factors(W: Tensor, rank: int) -> Factors:
    """Only the leading triplets of ``[out, in]``, to float32 accuracy, on W's device.

    The largest entry of each row of Vh is made positive. Errors as of :func:`exact_factors`.
    """
    W = W.detach().float()
    _check_input(W, rank)
    wide = W if W.shape[0] <= W.shape[1] else W.T
    U, S, Vh = _block_krylov(wide, rank) or _gram_decomposition(wide, rank)
    if wide is not W:
        U, Vh = Vh.T, U.T
    peak = Vh.gather(1, Vh.abs().argmax(dim=1, keepdim=True)).sign()
    return _truncated(U * peak.T, S, Vh * peak, rank, "fast")


def _truncated(U: Tensor, S: Tensor, Vh: Tensor, rank: int, method: Method) -> Factors:
    kept = (U[:, :rank], S[:rank], Vh[:rank], S[: rank + SPECTRUM_MARGIN])
    # each of them with memory of its own, as safetensors wants it
    U, S, Vh, spectrum = (
        part.float().cpu().clone(memory_format=torch.contiguous_format) for part in kept
    )
    return Factors(U, S, Vh, spectrum, method, lapack_build())


def compute_factors(W: Tensor, rank: int, method: Method) -> Factors:
    """:func:`exact_factors` or :func:`fast_factors`."""
    return exact_factors(W, rank) if method == "exact" else fast_factors(W, rank)


def lapack_build() -> str:
    """Name and version of the LAPACK inside this torch, such as ``torch 2.13.0, MKL 2024.2``."""
    build = torch.__config__.show()
    version = re.search(r"Math Kernel Library Version ([\d.]+)", build)
    library = re.search(r"LAPACK_INFO=(\w+)", build)
    name = f"MKL {version[1]}" if version else library[1] if library else "unknown LAPACK"
    return f"torch {torch.__version__}, {name}"


def _check_input(W: Tensor, rank: int) -> None:
    if not 1 <= rank <= min(W.shape):
        raise FactorizationError(
            f"rank {rank} of a weight of shape {list(W.shape)}: expected 1 to {min(W.shape)}"
        )
    if not bool(torch.isfinite(W).all()):
        raise FactorizationError(
            f"a weight of shape {list(W.shape)} has non-finite values; the base is damaged"
        )


def _block_krylov(W: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Leading triplets of a wide matrix, or None where too many steps would be needed."""
    width = rank + _OVERSAMPLING
    generator = torch.Generator("cpu").manual_seed(0)
    start = torch.randn((W.shape[0], width), generator=generator, dtype=torch.float32)
    basis = torch.linalg.qr(start.to(W.device))[0]
    images = W.T @ basis
    for step in range(1, min(_MAX_STEPS, W.shape[0] // width)):
        block = W @ images[:, -width:]
        for _ in range(2):  # once is not enough in float32
            block -= basis @ (basis.T @ block)
        basis = torch.cat([basis, torch.linalg.qr(block)[0]], dim=1)
        images = torch.cat([images, W.T @ basis[:, -width:]], dim=1)
        if step % _STEPS_BETWEEN_CHECKS == 0:
            U, S, Vh = _ritz_triplets(basis, images, rank + SPECTRUM_MARGIN)
            residual = (W @ Vh[: rank + 1].T - U[:, : rank + 1] * S[: rank + 1]).norm(dim=0)
            if bool((residual <= _RESIDUAL * S[0]).all()):
                return U, S, Vh
    return None


def _ritz_triplets(basis: Tensor, images: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Singular triplets of W projected on a basis of its rows' space, with images = Wᵀ basis."""
    gram = images.T.double() @ images.double()
    coordinates = torch.linalg.eigh(gram)[1].flip(1)[:, :count].float()
    right = images @ coordinates
    S = right.norm(dim=0)
    return basis @ coordinates, S, (right / S).T


def _gram_decomposition(W: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Leading triplets of a wide matrix from the eigenvectors of W Wᵀ in float64."""
    wide = W.double()
    vectors = torch.linalg.eigh(wide @ wide.T)[1].flip(1)[:, : rank + SPECTRUM_MARGIN]
    image = vectors.T @ wide
    S = image.norm(dim=1)
    return vectors, S, image / S.clamp_min(torch.finfo(torch.float64).tiny).unsqueeze(1)
