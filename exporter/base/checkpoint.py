"""Base checkpoints: headers first, tensors when they are needed.

Weights are 16/32-bit floating point, or bitsandbytes 4-bit: ``X.weight`` a packed ``uint8`` tensor,
its scales, code book and state beside it as ``X.weight.absmax``, ``X.weight.quant_map``, ....
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from exporter.base.carried_files import refuse_lfs_pointer
from exporter.errors import CheckpointError, CheckpointMissingError, reading
from exporter.safetensors.reader import DataFile, TensorHeader, open_data_file
from tinylora import QuantizedWeight
from tinylora.errors import QuantizedWeightError
from tinylora.files.json_text import read_object
from tinylora.models.model_config import check_model_config
from tinylora.weights.quantized_weight import STATE_PREFIX

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
# Weights of other kinds -> what helps; the last one counts.
_INSTEAD = {
    (".bin", ".pt", ".gguf"): "convert it to safetensors",
    (".safetensors",): "download the index of these shards too, or save the model anew with "
    "transformers' save_pretrained",
}


@dataclass(frozen=True)
class Checkpoint:
    """A base checkpoint on disk; holds headers, never weights.

    Attributes:
        files: Its weight files, in the order of their names.
        is_4bit: Whether its linear layers are stored as bitsandbytes 4-bit weights.
    """

    path: Path
    config: Mapping[str, Any]
    files: Mapping[str, DataFile]
    is_4bit: bool

    @cached_property
    def tensors(self) -> Mapping[str, TensorHeader]:
        """The headers of all files, by name."""
        return {name: h for file in self.files.values() for name, h in file.headers.items()}

    @cached_property
    def packed(self) -> Mapping[str, tuple[str, ...]]:
        """For each weight in 4 bits, the names of its scales, code books and state, sorted."""
        parts: dict[str, list[str]] = {}
        for name in sorted(self.tensors):  # of the form X.weight.absmax
            prefix, mark, _ = name.partition(".weight.")
            if mark:
                parts.setdefault(f"{prefix}.weight", []).append(name)
        return {
            weight: tuple(found)
            for weight, found in parts.items()
            if any(STATE_PREFIX in part for part in found)
        }

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU."""
        return self._file_of(name).read(name)

    def chunks(self, name: str) -> Iterator[Tensor]:
        """One tensor, flat, in pieces of bounded size; see :meth:`read`."""
        return self._file_of(name).chunks(name)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same checkpoint with other names for some of its tensors."""
        files = {}
        for shard, file in self.files.items():
            headers = (replace(h, name=names.get(h.name, h.name)) for h in file.headers.values())
            files[shard] = replace(file, headers={header.name: header for header in headers})
        return replace(self, files=files)

    def equal(self, one: str, other: str) -> bool:
        """Whether two tensors have the same dtype, shape and values."""
        first, second = self.tensors[one], self.tensors[other]
        if (first.dtype, first.shape) != (second.dtype, second.shape):
            return False
        chunks = (self.chunks(name) for name in (one, other))
        return all(torch.equal(*pair) for pair in zip(*chunks, strict=True))

    def digests(self) -> dict[str, str]:
        """SHA-256 of each weight file, hex, which has not changed since it was opened."""
        return {name: file.sha256() for name, file in self.files.items()}

    def read_4bit(self, module: str, shape: tuple[int, int]) -> QuantizedWeight:
        """The 4-bit weight of a linear layer, as stored.

        Raises:
            CheckpointError: Its tensors do not make one weight, or one of another ``(out, in)``.
        """
        codes = f"{module}.weight"
        file = self._file_of(codes).path
        tensors = {name: self.read(name) for name in (codes, *self.packed[codes])}
        try:
            weight = QuantizedWeight.from_tensors(codes, tensors)
        except QuantizedWeightError as error:
            raise CheckpointError(f"{file}: {error}; download it again") from error
        if weight.shape != shape:
            raise CheckpointError(
                f"{file}: the quantization state of {codes!r} says shape {list(weight.shape)}, "
                f"config.json asks for {list(shape)}; give the files of one model"
            )
        return weight

    def _file_of(self, name: str) -> DataFile:
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.path}: tensor {name!r} is missing; is the download complete?"
            )
        return self.files[self.tensors[name].file]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read the headers of a directory with config.json and safetensors weights.

    Raises:
        CheckpointError: A file is missing, damaged, or of a kind that cannot be folded.
        ModelConfigError: config.json says what no model can have.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointMissingError(f"{path}: no such directory; expected a base checkpoint")
    config = read_json(path / CONFIG_FILE)
    check_model_config(config, path / CONFIG_FILE)
    shards, weight_map = _shards(path)
    files: dict[str, DataFile] = {}
    tensors: dict[str, TensorHeader] = {}
    for shard in shards:
        # before anything else is read: what changes from here on is noticed
        with reading(path / shard):
            refuse_lfs_pointer(path / shard)
        files[shard] = open_data_file(path / shard)
        for header in files[shard].headers.values():
            if header.name in tensors:
                other = tensors[header.name].file
                raise CheckpointError(
                    f"{path / shard}: tensor {header.name!r} is also in {other}, and it cannot be "
                    "told which one counts; download the base again, or save it anew with "
                    "transformers' save_pretrained"
                )
            tensors[header.name] = header
    for name, shard in weight_map.items():
        if name not in tensors or tensors[name].file != shard:
            raise CheckpointError(
                f"{path / INDEX_FILE}: {name!r} is not in {shard}; download the base again"
            )
    opened = Checkpoint(path, config, files, _is_4bit(path, config))
    if opened.packed and not opened.is_4bit:
        raise CheckpointError(
            f"{path / CONFIG_FILE}: has no quantization_config, and {len(opened.packed)} weights "
            f"are stored in 4 bits ({min(opened.packed)}, ...), which nothing could load so; give "
            "the config.json that was saved with them"
        )
    return opened


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or a CheckpointError."""
    with reading(path):
        return read_object(path, CheckpointError)


def _shards(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Weight files, and the index's map from tensor to file; none where there is a single file."""
    if (path / SINGLE_FILE).is_file():
        return (SINGLE_FILE,), {}
    if (path / INDEX_FILE).is_file():
        weight_map = _weight_map(path / INDEX_FILE)
        return tuple(sorted(set(weight_map.values()))), weight_map
    remedy = ""
    for suffixes, what in _INSTEAD.items():
        if found := sorted(p.name for p in path.iterdir() if p.suffix in suffixes):
            remedy = f" (found {', '.join(found[:4])}; {what})"
    raise CheckpointMissingError(f"{path}: neither {SINGLE_FILE} nor {INDEX_FILE} is there{remedy}")


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no weight_map; download it again")
    if odd := [name for name in weight_map.values() if not _is_file_name(name)]:
        raise CheckpointError(
            f"{index}: expected names of files beside it, found {odd[0]!r:.100}, which is none or "
            "outside; download it again"
        )
    return weight_map


def _is_file_name(name: object) -> bool:
    if not isinstance(name, str) or not name.isprintable() or len(name.encode()) > 255:
        return False
    return name not in ("", "..") and Path(name).name == name


def _is_4bit(path: Path, config: Mapping[str, Any]) -> bool:
    settings = config.get("quantization_config")
    if settings is None:
        return False
    if not isinstance(settings, dict) or not settings.get("load_in_4bit"):
        raise CheckpointError(
            f"{path / CONFIG_FILE}: quantization_config {settings!r:.200} is not supported; give "
            "the 16-bit base or a bitsandbytes 4-bit one"
        )
    storage = settings.get("bnb_4bit_quant_storage", "uint8")
    if storage != "uint8":
        raise CheckpointError(
            f"{path / CONFIG_FILE}: bnb_4bit_quant_storage is {storage!r}, expected 'uint8'; "
            "give the 16-bit base instead"
        )
    return True
