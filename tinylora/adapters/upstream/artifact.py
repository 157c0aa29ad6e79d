"""The artifact: upstream's ``tiny_lora_v.pt``, read as untrusted input.

The file is a ``torch.save`` zip that holds one pickled dict (see :class:`Artifact`). Nothing in it
is ever executed: the zip's directory bounds every size, ``pickle_check`` lets only plain values and
tensors through, then ``torch.load(weights_only=True)`` reads it, and each field is checked.
"""

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tinylora.adapters.adapter import AdapterSizes
from tinylora.adapters.options import Formula, Stream, TrainedOn
from tinylora.adapters.upstream.fields import (
    REQUIRED,
    check_types,
    check_values,
    words_about_file,
)
from tinylora.adapters.upstream.formula import KnownFormula, known_formula
from tinylora.adapters.upstream.pickle_check import check_pickle
from tinylora.errors import ArtifactError, ArtifactMissingError
from tinylora.files.whole_file import replace_file

MAX_FILE_BYTES = 1 << 24
_STORAGE = re.compile(r"(^|/)data/[^/]+$")


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a TinyLoRA training left behind.

    Attributes:
        global_v: The trained vector, ``[u]``, floating point (upstream: bf16), on the CPU.
        rank: Rank r at which each frozen weight's SVD was cut.
        seed: Seed of the random projections P.
        model_id: Hub id of the base model, as upstream wrote it.
        total_replaced_layers: How many linear modules the training wrapped.
        is_quantized: Whether training used the 4-bit base; None in files without that key.
        saved_device: Device that ``global_v`` was saved from, such as ``cuda:0``; the projections
            were drawn on the same device.
        formula: Form of the delta, where the file has a key for it.
        extra_keys: Keys of the file that this library does not know.
    """

    made_from_weights: ClassVar[bool] = True
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
    extra_keys: tuple[str, ...] = ()

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
        plain = ("u", "rank", "seed", "model_id", "total_replaced_layers", "is_quantized")
        vector = {"sha256": self.sha256, "global_v": self.global_v.double().tolist()}
        return vector | {name: getattr(self, name) for name in (*plain, "formula", "saved_device")}


def load_artifact(path: str | Path) -> Artifact:
    """Read a file in upstream's format without running anything in it.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactError: No ``torch.save`` zip, damaged or oversized; the pickle names anything but
            tensors and plain values; or a field is missing, of the wrong type or impossible.
    """
    path = Path(path)
    content = _read_bounded(path)
    stored = _stored_sizes(path, content)
    located: list[tuple[Any, Any]] = []

    def remember_location(storage: Any, location: Any) -> Any:
        located.append((storage, location))
        return storage

    try:
        loaded = torch.load(BytesIO(content), map_location=remember_location, weights_only=True)
    except Exception as error:  # torch raises whatever a damaged archive leads to
        raise _damaged(path, error) from error
    sizes = [storage.nbytes() for storage, _ in located]
    if sorted(stored) != sorted(sizes):  # torch 2.7 reads on behind such tensors
        raise _damaged(path, ValueError(f"tensors of {sizes} bytes, of which it has {stored}"))
    fields = check_types(path, loaded)
    check_values(path, fields)
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
        extra_keys=tuple(sorted(set(fields) - set(REQUIRED) - {"is_quantized", "formula"})),
    )


def _read_bounded(path: Path) -> bytes:
    if not path.is_file():
        raise ArtifactMissingError(f"{path}: no such file; expected upstream's tiny_lora_v.pt")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise ArtifactError(
            f"{path}: {size} bytes, expected about 2 kB; is this a model checkpoint?"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror or error}); see to permissions, disk, network"
        ) from error


def _stored_sizes(path: Path, content: bytes) -> list[int]:
    """Bytes of each tensor's storage in a zip that holds plain data alone, told without unpickling.

    An ArtifactError for any other file, and one that unpacks to too much.
    """
    if (words := words_about_file(path.name, content)) is not None:
        raise ArtifactError(f"{path}: {words}")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            names = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
            usable = unpacked <= MAX_FILE_BYTES and len(names) == 1
            refused = check_pickle(archive.read(names[0])) if usable else None
    except Exception as error:  # zipfile too
        raise _damaged(path, error) from error
    if not usable:
        raise ArtifactError(
            f"{path}: a zip that unpacks to {unpacked} bytes with {len(names)} data.pkl members, "
            f"expected at most {MAX_FILE_BYTES} bytes and one such member; is it of torch.save?"
        )
    if refused is not None:
        raise ArtifactError(
            f"{path}: its pickle contains {refused}, which an artifact never needs and which could "
            "run code or never end; do not load this file, ask for the original"
        )
    return [member.file_size for member in members if _STORAGE.search(member.filename)]


def _damaged(path: Path, error: Exception) -> ArtifactError:
    first_line = (str(error).splitlines() or [""])[0]  # without torch's call stacks
    return ArtifactError(
        f"{path}: not a torch.save zip archive, or damaged ({type(error).__name__}: "
        f"{first_line:.200}); copy it again from the training machine"
    )


def _location(path: Path, vector: Tensor, located: Sequence[tuple[Any, Any]]) -> str:
    """Where a vector was saved from; other tensors of the file may have been anywhere else."""
    own = vector.untyped_storage().data_ptr()
    found = next((where for storage, where in located if storage.data_ptr() == own), "cpu")
    if not (isinstance(found, str) and re.fullmatch(r"[a-z_]{1,32}(:\d{1,4})?", found)):
        raise ArtifactError(
            f"{path}: global_v was saved from device {ascii(found):.100}, expected one that torch "
            "has, such as cuda:0"
        )
    return found


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

    A file that is there is replaced; ``global_v`` is ``[u]``, stored as bf16. ``formula`` goes into
    a key that upstream's loader ignores; where it is None, whoever reads the file must know it.
    ``saved_device`` is the one whose random stream drew P (``cpu``, ``cuda``, ``cuda:N``): a reader
    has nothing else to tell it by. (``torch.save`` records where the vector is now.)

    Raises:
        ArtifactError: An argument that :func:`load_artifact` would refuse; nothing is written.
    """
    fields: dict[str, Any] = {
        "global_v": global_v,
        "u_value": 0,
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
    check_types(path, fields)
    vector = global_v.detach().to("cpu", torch.bfloat16).contiguous().clone()
    fields |= {"global_v": vector, "u_value": vector.numel()}
    check_values(path, fields)
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", saved_device):
        raise ArtifactError(
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
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"tiny_lora_v/{name}"), content)
    replace_file(path, packed.getvalue())


class _StoragePickler(pickle.Pickler):
    """Pickles one tensor as ``torch.save`` does: its storage by reference, with a location."""

    def __init__(self, file: BytesIO, location: str) -> None:
        super().__init__(file, protocol=2)
        self._location = location

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        if isinstance(obj, torch.storage.TypedStorage):
            return ("storage", torch.BFloat16Storage, "0", self._location, obj.size())  # type: ignore[no-untyped-call]
        return None
