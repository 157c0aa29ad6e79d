"""Writes a file of upstream's format."""

import pickle
import re
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinylora.adapters.options import Formula
from tinylora.adapters.upstream.fields import check_types, check_values
from tinylora.errors import ArtifactError


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
    check_types(path, fields | {"global_v": global_v})
    check_values(path, fields)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", saved_device):
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
