"""A PEFT TinyLoRA adapter: a directory with adapter_config.json and adapter_model.safetensors.

For each target module X, and each group g of modules that share a vector, the file has

==================================  ==============  ==========================================
key                                 shape           what
==================================  ==============  ==========================================
``base_model.model.X.tinylora_A``   ``[r, in]``     √S · Vh
``base_model.model.X.tinylora_B``   ``[out, r]``    U · √S
``base_model.model.X.tinylora_P``   ``[u, r, r]``   projections, with ``save_projection`` alone
``base_model.tinylora_v.g``         ``[u]``         the trained vector
==================================  ==============  ==========================================

and ΔW = B · (Σᵢ vᵢ Pᵢ) · A. As A and B are in the file, no SVD is needed. The file is untrusted
input: only safetensors is read, and every size is known from its header before anything is made.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tinylora.artifact import AdapterSizes
from tinylora.errors import (
    ArtifactFieldError,
    ArtifactMissingError,
    ArtifactUnreadableError,
    ArtifactValueError,
    UnsafeArtifactError,
)
from tinylora.peft_config import CONFIG_FILE, PeftConfig, read_config

WEIGHTS_FILE = "adapter_model.safetensors"
MAX_FILE_BYTES = 1 << 34

_PREFIX = "base_model.model."
_VECTOR = re.compile(r"base_model\.tinylora_v\.(0|[1-9]\d{0,6})")
_FLOATS = ("F32", "BF16", "F16", "F64")
_LEAVES = ("tinylora_A", "tinylora_B", "tinylora_P")


@dataclass(frozen=True, eq=False)
class PeftAdapter:
    """A checked adapter; A, B and P stay in the file until they are asked for.

    Attributes:
        path: Its directory.
        config: What its adapter_config.json says.
        shapes: Module -> ``(out, in, r)``, in the order of the names; the base knows the order of
            the modules.
        vectors: The trained vectors, ``[groups, u]``, in the file's dtype, on the CPU.
        sha256: Hex digest over the names and digests of its two files.
    """

    path: Path
    config: PeftConfig
    shapes: Mapping[str, tuple[int, int, int]]
    vectors: Tensor
    sha256: str

    @property
    def rank(self) -> int:
        """Rank r."""
        return self.config.r

    @property
    def sizes(self) -> AdapterSizes:
        """Sizes of its tensors."""
        return AdapterSizes(self.rank, self.config.u, self.vectors.shape[0], capped=True)

    @property
    def model_id(self) -> str:
        """The base's name: a hub id, the last part of a path, or nothing."""
        name = self.config.base
        is_hub_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) is not None
        return name if is_hub_id else re.split(r"[/\\]", name.rstrip("/\\"))[-1]

    def describe(self) -> dict[str, Any]:
        """What decides its delta, for a manifest."""
        return {
            "dialect": "peft",
            "sha256": self.sha256,
            "v": self.vectors.double().tolist(),
            "u": self.config.u,
            "rank": self.config.r,
            "weight_tying": self.config.weight_tying,
            "projection_seed": self.config.projection_seed,
            "save_projection": self.config.save_projection,
            "model_id": self.model_id,
            "modules": len(self.shapes),
        }

    def read(self, module: str) -> Mapping[str, Tensor]:
        """``A``, ``B`` and, where it is stored, ``P`` of a module, in the file's dtypes.

        Raises:
            ArtifactUnreadableError: The file has gone, or was changed meanwhile.
        """
        leaves = _LEAVES if self.config.save_projection else _LEAVES[:2]
        file = self.path / WEIGHTS_FILE
        try:
            with safe_open(file, framework="pt", device="cpu") as opened:
                return {leaf[-1]: opened.get_tensor(_key(module, leaf)) for leaf in leaves}
        except (SafetensorError, OSError) as error:
            raise ArtifactUnreadableError(f"{file}: cannot be read any more ({error})") from error


def adapter_files(directory: Path) -> tuple[Path, Path]:
    """The two files that make an adapter."""
    return directory / CONFIG_FILE, directory / WEIGHTS_FILE


def load_peft_adapter(directory: str | Path) -> PeftAdapter:
    """Read and check an adapter.

    Args:
        directory: What ``save_pretrained`` of a PEFT model made.

    Raises:
        ArtifactMissingError: One of its files is not there.
        ArtifactUnreadableError: A file is damaged or oversized.
        UnsafeArtifactError: The weights are a pickle.
        ArtifactFieldError: A field or tensor is missing, unknown, or of the wrong type or shape.
        ArtifactValueError: A value is out of range or not finite.
    """
    directory = Path(directory)
    config = read_config(directory)
    file = directory / WEIGHTS_FILE
    _check_file(directory, file)
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            headers = {
                name: tuple(_header(file, name, opened.get_slice(name)))
                for name in opened.keys()  # noqa: SIM118
            }
            shapes = _module_shapes(file, config, headers)
            groups = group_count(len(shapes), config.weight_tying)
            names = _vector_names(file, config, headers, groups)
            for name in headers:
                _check_finite(file, name, opened.get_tensor(name))
            vectors = torch.stack([opened.get_tensor(name) for name in names])
    except (SafetensorError, OSError) as error:
        raise ArtifactUnreadableError(
            f"{file}: not a readable safetensors file ({error}); copy it again"
        ) from error
    return PeftAdapter(directory, config, shapes, vectors, _digest(directory))


def group_count(modules: int, weight_tying: float) -> int:
    """How many vectors PEFT makes for so many modules."""
    return max(1, round(modules * (1.0 - weight_tying)))


def group_of(index: int, modules: int, weight_tying: float) -> int:
    """Which vector PEFT gives to the module at ``index`` in the base's order."""
    groups = group_count(modules, weight_tying)
    return min(index // max(1, modules // groups), groups - 1)


def _check_file(directory: Path, file: Path) -> None:
    pickled = directory / "adapter_model.bin"
    if not file.is_file() and pickled.is_file():
        raise UnsafeArtifactError(
            f"{pickled}: a pickle, which can run code when it is loaded, is never read; save the "
            f"adapter again as {WEIGHTS_FILE} (save_pretrained with safe_serialization=True)"
        )
    if not file.is_file():
        raise ArtifactMissingError(f"{file}: no such file; copy the whole adapter directory")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactUnreadableError(
            f"{file}: {file.stat().st_size} bytes; an adapter has at most {MAX_FILE_BYTES}. Is "
            "this a model checkpoint?"
        )


def _header(file: Path, name: str, view: Any) -> list[int]:
    if view.get_dtype() not in _FLOATS:
        raise ArtifactFieldError(
            f"{file}: tensor {name!r} has dtype {view.get_dtype()}, expected one of "
            f"{', '.join(_FLOATS)}"
        )
    shape: list[int] = view.get_shape()
    return shape


def _module_shapes(
    file: Path, config: PeftConfig, headers: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, int, int]]:
    """Shapes of all modules, with every key accounted for."""
    modules = set()
    for name in headers:
        module, _, leaf = name.removeprefix(_PREFIX).rpartition(".")
        known = name.startswith(_PREFIX) and leaf in _LEAVES and module
        if not known and not _VECTOR.fullmatch(name):
            raise ArtifactFieldError(
                f"{file}: tensor {name!r} is no part of a TinyLoRA adapter (A, B, P and v); was "
                "something else trained along with it? Merge it with PEFT"
            )
        if known:
            modules.add(module)
    if not modules:
        raise ArtifactFieldError(f"{file}: has no module (no tensor named *.tinylora_A)")
    return {module: _shape(file, config, headers, module) for module in sorted(modules)}


def _shape(
    file: Path, config: PeftConfig, headers: Mapping[str, tuple[int, ...]], module: str
) -> tuple[int, int, int]:
    a, b, p = (headers.get(_key(module, leaf)) for leaf in _LEAVES)
    if a is None or b is None:
        absent = _key(module, _LEAVES[0] if a is None else _LEAVES[1])
        raise ArtifactFieldError(f"{file}: tensor {absent!r} is missing; copy the adapter again")
    if (p is None) == config.save_projection:
        state, remedy = ("missing", "false") if p is None else ("there", "true")
        raise ArtifactFieldError(
            f"{file}: tensor {_key(module, 'tinylora_P')!r} is {state}, but {CONFIG_FILE} says "
            f"save_projection {str(config.save_projection).lower()}; copy both files again (if "
            f"only the configuration is wrong, set it to {remedy})"
        )
    into, out = a[-1] if len(a) == 2 else 0, b[0] if len(b) == 2 else 0
    r = min(config.r, out, into)
    wanted = {_LEAVES[0]: (r, into), _LEAVES[1]: (out, r), _LEAVES[2]: (config.u, r, r)}
    for (leaf, expected), found in zip(wanted.items(), (a, b, p), strict=True):
        if r == 0 or found not in (expected, None):
            raise ArtifactFieldError(
                f"{file}: tensor {_key(module, leaf)!r} has shape {list(found or ())}, expected "
                f"{_words(leaf)} with r = {config.r} and u = {config.u} of {CONFIG_FILE}"
            )
    return out, into, r


def _vector_names(
    file: Path, config: PeftConfig, headers: Mapping[str, tuple[int, ...]], groups: int
) -> list[str]:
    names = [f"base_model.tinylora_v.{group}" for group in range(groups)]
    rule = f"weight_tying {config.weight_tying} makes {groups} groups"
    for name in names:
        if name not in headers:
            raise ArtifactFieldError(f"{file}: tensor {name!r} is missing; {rule} of the modules")
        if headers[name] != (config.u,):
            raise ArtifactFieldError(
                f"{file}: tensor {name!r} has shape {list(headers[name])}, expected [{config.u}], "
                f"u of {CONFIG_FILE}"
            )
    for name in sorted(headers):
        if _VECTOR.fullmatch(name) and name not in names:
            raise ArtifactFieldError(f"{file}: tensor {name!r} belongs to no module; {rule}")
    return names


def _check_finite(file: Path, name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ArtifactValueError(
            f"{file}: tensor {name!r} has non-finite values; the training diverged, or the file is "
            "damaged"
        )


def _digest(directory: Path) -> str:
    total = hashlib.sha256()
    for path in adapter_files(directory):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name}\0{content}\n".encode())
    return total.hexdigest()


def _key(module: str, leaf: str) -> str:
    return f"{_PREFIX}{module}.{leaf}"


def _words(leaf: str) -> str:
    return {_LEAVES[0]: "[r, in]", _LEAVES[1]: "[out, r]", _LEAVES[2]: "[u, r, r]"}[leaf]
