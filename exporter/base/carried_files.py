"""Files of the base that go along with an export, byte for byte."""

from collections.abc import Mapping
from pathlib import Path

from exporter.errors import CheckpointError, CheckpointMissingError

_WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt"}
)

# One of them is there where a tokenizer is.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def carried_files(base: Path, own: frozenset[str]) -> Mapping[str, Path]:
    """Files of the base that go along byte for byte, by their name in the output.

    Weights, shard indexes, hidden directories and ``own`` names stay behind; the base's model card
    becomes ``BASE_README.md``. A link to nothing, and a name that is no text, are CheckpointErrors.
    """
    carried: dict[str, Path] = {}
    card = "BASE_README.md"
    while (base / card).exists():
        card = f"BASE_{card}"
    for path in sorted(base.rglob("*")):
        relative = path.relative_to(base)
        name = card if str(relative) == "README.md" else relative.as_posix()
        if _stays_behind(relative) or name in own:
            continue
        if not name.isprintable():  # nor are bytes that are no UTF-8
            raise CheckpointError(
                f"{base}: the name {ascii(name)} is no printable text; rename or remove the file"
            )
        if path.is_symlink() and not path.exists():
            raise CheckpointMissingError(
                f"{path}: is a link to {path.readlink()}, which is not there; finish the download"
            )
        if path.is_file():
            carried[name] = path
    return carried


def _stays_behind(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts[:-1])
    index = relative.name.endswith((".safetensors.index.json", ".bin.index.json"))
    return hidden or index or relative.suffix in _WEIGHT_SUFFIXES
