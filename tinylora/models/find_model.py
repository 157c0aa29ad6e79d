"""Where a model lies on this machine: a directory, or a hub's name of it in the cache of a hub.

======================  =========================================================================
Hugging Face's cache    ``models--Qwen--Qwen2.5-Coder-3B/snapshots/REVISION``, of links to blobs
ModelScope's cache      ``Qwen/Qwen2___5-Coder-3B``, since 1.19 below ``models``
======================  =========================================================================

Nothing is downloaded. Letter case does not count, as hubs redirect names in another one.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tinylora.errors import ModelNotFoundError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find_model(name: str) -> Path:
    """The directory of a model that is named by its path or by its hub id.

    A ModelNotFoundError says where a hub id was looked for; other names are paths, there or not.
    """
    path = Path(name)
    if path.is_dir() or not _HUB_ID.fullmatch(name):
        return path
    owner, model = name.lower().split("/")
    from huggingface_hub.constants import HF_HUB_CACHE

    hugging_face = Path(HF_HUB_CACHE)
    for entry in _children(hugging_face):
        if entry.name.lower() == f"models--{owner}--{model}":
            for snapshot in _snapshots(entry):
                return snapshot
    scope = Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope/hub").expanduser()
    looked = [scope, scope / "models", scope.parent / "models"]
    for place in looked:
        for folder in _children(place):
            for found in _children(folder) if folder.name.lower() == owner else ():
                if found.name.replace("___", ".").lower() == model and _is_model(found):
                    return found
    raise ModelNotFoundError(
        f"{name}: no directory {path.absolute()}, and no model of this name in the caches "
        f"{', '.join(map(str, (hugging_face, *looked)))}; give its directory, or download it: "
        f"hf download {name}, or modelscope download --model {name}"
    )


def _snapshots(repository: Path) -> Iterator[Path]:
    """Snapshots in Hugging Face's cache: that of the main branch first, then newer ones first."""
    main = repository / "refs" / "main"
    revision = main.read_text(encoding="ascii", errors="replace") if main.is_file() else ""
    newest = sorted(_children(repository / "snapshots"), key=lambda p: -p.stat().st_mtime)
    yield from (p for p in sorted(newest, key=lambda p: p.name != revision) if _is_model(p))


def _is_model(directory: Path) -> bool:
    return (directory / "config.json").is_file()


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
