"""The artifact: upstream's ``tiny_lora_v.pt``, read as untrusted input.

The file is a ``torch.save`` zip that holds one pickled dict (see :class:`Artifact` for its keys).
It is examined in three steps, and nothing in it is ever executed:

1. the zip's directory bounds every size;
2. the pickle is checked without running it: plain values and tensors alone (``pickle_check``);
3. ``torch.load(weights_only=True)`` reads it, and each field is checked.
"""

import hashlib
import math
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tinylora.adapters.upstream.foreign_files import words_about_content, words_about_file
from tinylora.adapters.upstream.formula import Formula, KnownFormula, known_formula
from tinylora.adapters.upstream.pickle_check import check_pickle
from tinylora.errors import (
    ArtifactError,
    ArtifactFieldError,
    ArtifactMissingError,
    ArtifactUnreadableError,
    ArtifactValueError,
    UnsafeArtifactError,
)

Stream = Literal["cuda", "cpu"]
TrainedOn = Literal["4bit", "16bit"]

MAX_FILE_BYTES = 1 << 24
MAX_U = 1 << 16
MAX_RANK = 1 << 10
# P of one module, which a file of 2 kB would have us draw, whatever its size.
MAX_PROJECTION = 1 << 26

_REQUIRED: Mapping[str, type] = {
    "global_v": Tensor,
    "u_value": int,
    "rank": int,
    "seed": int,
    "model_id": str,
    "total_replaced_layers": int,
}
# What a damaged archive makes torch.load and zipfile raise.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    pickle.UnpicklingError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    AssertionError,
    MemoryError,
)


@dataclass(frozen=True)
class AdapterSizes:
    """Sizes of an adapter's tensors, known before anything is computed.

    Attributes:
        rank: Rank r.
        u: Length of a trained vector.
        groups: Number of trained vectors.
        capped: Whether a module with a side shorter than r has that side's rank instead (PEFT), or
            there can be no such module (upstream).
    """

    rank: int
    u: int
    groups: int
    capped: bool

    def rank_of(self, shape: tuple[int, int]) -> int:
        """Rank of a module whose weight has a shape ``(out, in)``."""
        return min(self.rank, *shape)


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a TinyLoRA training left behind.

    Attributes:
        path: The file it came from.
        global_v: The trained vector, ``[u]``, floating point (upstream: bf16), on the CPU.
        u: Its length (``u_value`` in the file).
        rank: Rank r at which each frozen weight's SVD was cut.
        seed: Seed of the random projections P.
        model_id: Hub id of the base model, as upstream wrote it.
        total_replaced_layers: How many linear modules the training wrapped.
        is_quantized: Whether training used the 4-bit base; None in files without that key.
        formula: Form of the delta, where the file has a key for it.
        saved_device: Device that ``global_v`` was saved from, such as ``cuda:0``; the projections
            were drawn on the same device.
        sha256: Hex digest of the file.
        extra_keys: Keys of the file that this library does not know.
    """

    path: Path
    global_v: Tensor
    u: int
    rank: int
    seed: int
    model_id: str
    total_replaced_layers: int
    is_quantized: bool | None
    saved_device: str
    sha256: str
    formula: Formula | None = None
    extra_keys: tuple[str, ...] = field(default=())

    @property
    def known_formula(self) -> KnownFormula | None:
        """Form of the delta and what it is known from; None where nothing tells it."""
        return known_formula(self.formula, self.is_quantized, self.sha256)

    @property
    def trained_on(self) -> TrainedOn:
        """What the base's weights were in training; in 4 bits where the file says nothing."""
        return "16bit" if self.is_quantized is False else "4bit"

    @property
    def stream_hint(self) -> Stream | None:
        """Random stream that the saved device implies; None where it is neither CUDA nor CPU."""
        kind = self.saved_device.split(":", 1)[0]
        return kind if kind in ("cuda", "cpu") else None  # type: ignore[return-value]

    @property
    def sizes(self) -> AdapterSizes:
        """Sizes of its tensors."""
        return AdapterSizes(self.rank, self.u, groups=1, capped=False)

    def describe(self) -> dict[str, Any]:
        """What decides its delta, for a manifest."""
        return {
            "sha256": self.sha256,
            "global_v": [float(value) for value in self.global_v.double().tolist()],
            "u": self.u,
            "rank": self.rank,
            "seed": self.seed,
            "model_id": self.model_id,
            "total_replaced_layers": self.total_replaced_layers,
            "is_quantized": self.is_quantized,
            "formula": self.formula,
            "saved_device": self.saved_device,
        }


def load_artifact(path: str | Path) -> Artifact:
    """Read an artifact without running anything in it.

    Args:
        path: A file in upstream's format.

    Returns:
        The artifact, every field checked.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactUnreadableError: Not a ``torch.save`` zip, truncated, damaged or oversized.
        UnsafeArtifactError: The pickle names anything but tensors and plain values.
        ArtifactFieldError: A field is missing or of the wrong type.
        ArtifactValueError: A non-finite ``global_v``, ``u_value`` ≠ its length, rank < 1, ...
    """
    path = Path(path)
    content = _read_bounded(path)
    _refuse_code(path, _pickle_of(path, content))
    located: list[tuple[Any, str]] = []

    def remember_location(storage: Any, location: str) -> Any:
        located.append((storage, location))
        return storage

    try:
        loaded = torch.load(BytesIO(content), map_location=remember_location, weights_only=True)
    except _DAMAGE as error:
        raise ArtifactUnreadableError(
            f"{path}: the archive is damaged ({_first_line(error)}); copy it again from the "
            "training machine"
        ) from error
    fields = _check_types(path, loaded)
    _check_values(path, fields)
    return Artifact(
        path=path,
        global_v=fields["global_v"].detach().clone(),
        u=fields["u_value"],
        rank=fields["rank"],
        seed=fields["seed"],
        model_id=fields["model_id"],
        total_replaced_layers=fields["total_replaced_layers"],
        is_quantized=fields.get("is_quantized"),
        saved_device=_location(path, fields["global_v"], located),
        sha256=hashlib.sha256(content).hexdigest(),
        formula=fields.get("formula"),
        extra_keys=tuple(sorted(set(fields) - set(_REQUIRED) - {"is_quantized", "formula"})),
    )


def _read_bounded(path: Path) -> bytes:
    if not path.is_file():
        raise ArtifactMissingError(f"{path}: no such file; expected upstream's tiny_lora_v.pt")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ArtifactUnreadableError(
            f"{path}: {size} bytes; an artifact has about 2 kB and at most {MAX_FILE_BYTES}. "
            "Is this a model checkpoint?"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactUnreadableError(
            f"{path}: cannot be read ({error.strerror or error}); see to its permissions, or to "
            "the disk or network that it is on"
        ) from error


def _pickle_of(path: Path, content: bytes) -> bytes:
    """The pickle inside the zip, after the zip's directory has passed inspection."""
    if (words := words_about_file(path.name, content)) is not None:
        raise ArtifactUnreadableError(f"{path}: {words}")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MAX_FILE_BYTES:
                raise ArtifactUnreadableError(
                    f"{path}: unpacks to {unpacked} bytes; at most {MAX_FILE_BYTES} are expected"
                )
            names = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
            if len(names) != 1:
                raise ArtifactUnreadableError(
                    f"{path}: a zip with {len(names)} data.pkl members, expected one; is this file "
                    "made by torch.save?"
                )
            return archive.read(names[0])
    except ArtifactError:
        raise
    except _DAMAGE as error:
        raise ArtifactUnreadableError(
            f"{path}: not a torch.save zip archive, or truncated ({error}); copy it again from the "
            "training machine"
        ) from error


def _refuse_code(path: Path, pickled: bytes) -> None:
    """Refuse all but plain data, without unpickling."""
    try:
        refused = check_pickle(pickled)
    except _DAMAGE as error:
        raise ArtifactUnreadableError(f"{path}: damaged pickle ({error})") from error
    if refused is not None:
        raise UnsafeArtifactError(
            f"{path}: its pickle contains {refused}, which an artifact never needs and which could "
            "run code or never end; do not load this file, ask for the original"
        )


def _first_line(error: BaseException) -> str:
    """What went wrong, without the call stack that torch puts into some messages."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]:.200}"


def _location(path: Path, vector: Tensor, located: Sequence[tuple[Any, str]]) -> str:
    """Where a vector was saved from; other tensors of the file may have been anywhere else."""
    own = vector.untyped_storage().data_ptr()
    found = next((where for storage, where in located if storage.data_ptr() == own), "cpu")
    if not re.fullmatch(r"[a-z_]{1,32}(:\d{1,4})?", found):
        raise ArtifactFieldError(
            f"{path}: global_v was saved from device {ascii(found):.100}, expected one that torch "
            "has, such as cuda:0"
        )
    return found


def _check_types(path: Path, loaded: object) -> dict[str, Any]:
    if (words := words_about_content(loaded)) is not None:
        raise ArtifactFieldError(f"{path}: {words}")
    if not isinstance(loaded, dict):
        raise ArtifactFieldError(
            f"{path}: holds a {type(loaded).__name__}, expected a dict with {sorted(_REQUIRED)}"
        )
    if unnamed := [key for key in loaded if not (isinstance(key, str) and key.isprintable())]:
        raise ArtifactFieldError(f"{path}: key {ascii(unnamed[0])} is no printable string")
    for name, kind in _REQUIRED.items():
        if name not in loaded:
            raise ArtifactFieldError(
                f"{path}: key {name!r} is missing (found {sorted(loaded)}); this is not a "
                "TinyLoRA artifact, or an older format"
            )
        value = loaded[name]
        # bool is an int to Python, and never a count or a seed
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ArtifactFieldError(
                f"{path}: {name} is a {type(value).__name__}, expected {kind.__name__}"
            )
    if not isinstance(loaded.get("is_quantized"), bool | None):
        raise ArtifactFieldError(
            f"{path}: is_quantized is a {type(loaded['is_quantized']).__name__}, expected bool"
        )
    if (formula := loaded.get("formula")) is not None and formula not in get_args(Formula):
        raise ArtifactFieldError(
            f"{path}: formula is {formula!r:.100}, expected one of {', '.join(get_args(Formula))}"
        )
    vector = loaded["global_v"]
    if vector.dim() != 1 or not vector.is_floating_point() or vector.layout != torch.strided:
        raise ArtifactFieldError(
            f"{path}: global_v is {vector.dtype} of shape {list(vector.shape)}, expected a "
            "floating-point vector [u]"
        )
    return loaded


def _check_values(path: Path, fields: Mapping[str, Any]) -> None:
    def refuse(name: str, found: object, expected: str) -> None:
        raise ArtifactValueError(f"{path}: {name} = {found}, expected {expected}")

    vector, u, rank, seed = (fields[k] for k in ("global_v", "u_value", "rank", "seed"))
    if not 1 <= vector.numel() <= MAX_U:
        refuse("global_v.numel()", vector.numel(), f"1 to {MAX_U}")
    if u != vector.numel():
        refuse("u_value", u, f"the length of global_v, {vector.numel()}")
    if not 1 <= rank <= MAX_RANK:
        refuse("rank", rank, f"1 to {MAX_RANK}")
    if u * rank**2 > MAX_PROJECTION:
        refuse("u_value · rank²", u * rank**2, f"at most {MAX_PROJECTION} numbers a module")
    if not -(1 << 63) <= seed < 1 << 64:
        refuse("seed", seed, "a 64-bit integer, as torch.manual_seed takes")
    if not 1 <= fields["total_replaced_layers"] <= 1 << 20:
        refuse("total_replaced_layers", fields["total_replaced_layers"], f"1 to {1 << 20}")
    if not fields["model_id"].strip() or not fields["model_id"].isprintable():
        refuse("model_id", repr(fields["model_id"]), "the hub id of the base model, in one line")
    if not bool(torch.isfinite(vector).all()):
        bad = [i for i, x in enumerate(vector.tolist()) if not math.isfinite(x)]
        refuse("global_v", f"non-finite at {bad[:8]}", "finite numbers; the training diverged")


def save_artifact(
    path: str | Path,
    *,
    global_v: Tensor,
    rank: int,
    seed: int,
    model_id: str,
    total_replaced_layers: int,
    formula: Formula | None = None,
    is_quantized: bool | None = None,
    saved_device: str = "cuda:0",
) -> None:
    """Write an artifact in upstream's format, byte for byte the same for the same arguments.

    ``torch.save`` would record the device that the vector is on now; here the caller names the
    device whose random stream drew P, because a reader has nothing else to tell it by.

    Args:
        path: Where to write; replaced if it exists.
        global_v: ``[u]``, floating point; stored as bf16.
        rank: SVD rank r.
        seed: Seed of the projections.
        model_id: Hub id of the base.
        total_replaced_layers: Number of wrapped modules.
        formula: Form of the delta that was trained, in a key that upstream's loader ignores. None
            writes no such key: whoever reads the file must then know the formula.
        is_quantized: Written only when not None (later upstream files have it).
        saved_device: Storage location to record: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ArtifactFieldError: An argument of another type, or a vector of another shape.
        ArtifactValueError: One that :func:`load_artifact` would refuse, or another device; nothing
            is written.
    """
    vector = global_v.detach().to("cpu", torch.bfloat16).contiguous().clone()
    fields: dict[str, Any] = {
        "global_v": vector,
        "u_value": vector.numel(),
        "rank": rank,
        "seed": seed,
        "model_id": model_id,
        "total_replaced_layers": total_replaced_layers,
    }
    if formula is not None:
        fields["formula"] = formula
    if is_quantized is not None:
        fields["is_quantized"] = is_quantized
    path = Path(path)
    _check_types(path, fields | {"global_v": global_v})
    _check_values(path, fields)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", saved_device):
        raise ArtifactValueError(
            f"{path}: saved_device = {saved_device!r}, expected cpu, cuda or cuda:N, whose random "
            "streams are known"
        )
    pickled = BytesIO()
    with warnings.catch_warnings():
        # pickling a tensor still goes through the storage class that torch deprecates
        warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning)
        _StoragePickler(pickled, saved_device).dump(fields)
    members = {
        "data.pkl": pickled.getvalue(),
        "byteorder": b"little",
        "data/0": vector.view(torch.uint8).numpy().tobytes(),
        "version": b"3\n",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"tiny_lora_v/{name}"), content)


class _StoragePickler(pickle.Pickler):
    """Pickles one tensor as ``torch.save`` does: its storage by reference, with a location."""

    def __init__(self, file: BytesIO, location: str) -> None:
        super().__init__(file, protocol=2)
        self._location = location

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        if isinstance(obj, torch.storage.TypedStorage):
            return ("storage", torch.BFloat16Storage, "0", self._location, obj.size())  # type: ignore[no-untyped-call]
        return None
