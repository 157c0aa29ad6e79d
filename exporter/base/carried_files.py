"""Files of the base that go along with an export, byte for byte, chosen by what they are."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import CheckpointError, CheckpointMissingError

# Weights of the base are not those of the export, in whatever container; nor are half downloads.
_WEIGHTS = re.compile(
    r"\.(safetensors|bin|ptl?|pth|gguf|ggml|h5|hdf5|msgpack|onnx|onnx_data|ckpt|ot|npz|npy|distcp|"
    r"pdparams|pdiparams|tflite|msc|pkl|pickle|mlmodel|engine|params|"
    r"incomplete|part|partial|tmp|lock|bak|orig|aria2)$",
    re.IGNORECASE,
)
_KNOWN = re.compile(r"\.(json|jsonl|txt|md|jinja|model|tiktoken|vocab|spm|py|ya?ml)$")
_MOST_OF_UNKNOWN = 10 << 20
LFS_POINTER = b"version https://git-lfs"

# One of them is there where a tokenizer is.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class SideFiles:
    """What a base has beside its own weights.

    Attributes:
        carried: Files that go along, by their name in the output.
        left_out: Names of files that do not, other than those that no export has.
    """

    carried: Mapping[str, Path]
    left_out: tuple[str, ...]


def side_files(base: Path, own: frozenset[str]) -> SideFiles:
    """Choose the files that go along.

    Weights in any container, unfinished downloads, hidden directories, ``own`` names and large
    files of unknown kinds stay behind; the base's model card becomes ``BASE_README.md``.

    Raises:
        CheckpointError: A name is no text, or a file is a Git LFS pointer or broken JSON.
        CheckpointMissingError: A link to nothing.
    """
    carried: dict[str, Path] = {}
    left_out: list[str] = []
    card = "BASE_README.md"
    while (base / card).exists():
        card = f"BASE_{card}"
    for path in _files(base):
        relative = path.relative_to(base)
        name = card if str(relative) == "README.md" else relative.as_posix()
        index = name.endswith((".safetensors.index.json", ".bin.index.json"))
        if index or name in own:
            continue
        if _WEIGHTS.search(name):
            left_out.append(name if name.isprintable() else ascii(name)[1:-1])
            continue
        if not name.isprintable():  # nor are bytes that are no UTF-8
            raise CheckpointError(
                f"{base}: the name {ascii(name)} is no printable text; rename or remove the file"
            )
        if path.is_symlink() and not path.exists():
            raise CheckpointMissingError(
                f"{path}: is a link to {path.readlink()}, which is not there; finish the download"
            )
        if not _KNOWN.search(name) and path.stat().st_size > _MOST_OF_UNKNOWN:
            left_out.append(name)
        elif path.is_file():
            carried[name] = path
    return SideFiles(carried, tuple(left_out))


def check_side_files(base: Path) -> None:
    """Refuse, before any work, what could not be carried or would not load; errors as above."""
    for path in side_files(base, frozenset()).carried.values():
        refuse_lfs_pointer(path)
        if path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except (ValueError, RecursionError) as error:
                raise CheckpointError(
                    f"{path}: is no JSON ({error}); download it again, or remove it"
                ) from error


def refuse_lfs_pointer(path: Path) -> None:
    """Refuse what Git leaves in place of a large file that was not downloaded."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise CheckpointError(
                f"{path}: is a Git LFS pointer and not the file; run git lfs pull in its directory"
            )


def _files(base: Path) -> Iterator[Path]:
    """All files below a directory, sorted; linked directories too, but none twice on a way down."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(base, followlinks=True):
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(Path(folder, name)) not in seen
        )
        yield from (Path(folder, name) for name in sorted(names))
