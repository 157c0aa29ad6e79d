"""Where a model lies on this machine: a directory, or a hub's name of it in the cache of a hub.

======================  =========================================================================
Hugging Face's cache    ``models--Qwen--Qwen2.5-Coder-3B/snapshots/REVISION``, of links to blobs
ModelScope's cache      ``Qwen/Qwen2___5-Coder-3B``, since 1.19 below ``models``
======================  =========================================================================

Nothing is downloaded unless a hub is named to ask. Letter case does not count, as hubs redirect
names in another one.
"""

import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from tinylora.errors import ModelDownloadError, ModelNotFoundError
from tinylora.files.json_text import read_object

Hub = Literal["huggingface", "modelscope"]

_CLIENTS: dict[Hub, str] = {"huggingface": "huggingface_hub", "modelscope": "modelscope"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_INDEX = "model.safetensors.index.json"
_WEIGHTS = (".safetensors", ".bin", ".gguf")
# The same weights once more, in forms that are not read here.
_NOT_READ = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx*", "*.h5", "*.msgpack", "original/*"]


def find_model(name: str, download: Hub | None = None) -> Path:
    """The directory of a model that is named by its path or by its hub id.

    Other names are paths, there or not. What no cache has whole is downloaded from the hub
    ``download``, by the hub's own client into the hub's cache.

    Raises:
        ModelNotFoundError: A hub id of a model that is not on this machine; says where it looked.
        ModelDownloadError: The same, and the hub or its client said no, or there is no network.
    """
    path = Path(name)
    if path.is_dir() or not _HUB_ID.fullmatch(name):
        return path
    from huggingface_hub.constants import HF_HUB_CACHE

    scope = Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope/hub").expanduser()
    caches = [Path(HF_HUB_CACHE), scope, scope / "models", scope.parent / "models"]
    for found in _cached(name, *caches):
        return found
    looked = (
        f"{name}: no directory {path.absolute()}, and no model of this name, whole, in the caches "
        f"{', '.join(map(str, caches))}"
    )
    if download is not None:
        return _downloaded(name, download, looked)
    raise ModelNotFoundError(
        f"{looked}; give its directory, or download it: --download huggingface or modelscope"
    )


def _cached(name: str, hugging_face: Path, *scopes: Path) -> Iterator[Path]:
    owner, model = name.lower().split("/")
    for entry in _children(hugging_face):
        if entry.name.lower() == f"models--{owner}--{model}":
            yield from _snapshots(entry)
    for place in scopes:
        for folder in _children(place):
            for found in _children(folder) if folder.name.lower() == owner else ():
                if found.name.replace("___", ".").lower() == model and _is_whole(found):
                    yield found


def _downloaded(name: str, hub: Hub, looked: str) -> Path:
    try:
        client: Any = import_module(_CLIENTS[hub])
        return Path(client.snapshot_download(name, ignore_patterns=_NOT_READ))
    except ModuleNotFoundError as error:
        raise ModelDownloadError(
            f"{looked}; --download {hub} needs a package: pip install {error.name}"
        ) from error
    except Exception as error:  # the HTTP libraries of both clients have no type in common
        reason = " ".join(str(error).split()) or repr(error)
        raise ModelDownloadError(f"{looked}; not downloaded from {hub}: {reason:.1000}") from error


def _snapshots(repository: Path) -> Iterator[Path]:
    """Snapshots in Hugging Face's cache: that of the main branch first, then newer ones first."""
    main = repository / "refs" / "main"
    revision = main.read_text(encoding="ascii", errors="replace") if main.is_file() else ""
    newest = sorted(_children(repository / "snapshots"), key=lambda p: -p.stat().st_mtime)
    yield from (p for p in sorted(newest, key=lambda p: p.name != revision) if _is_whole(p))


def _is_whole(directory: Path) -> bool:
    """Whether a model has its configuration, and every weight file that its index names, or any."""
    try:
        weights = read_object(directory / _INDEX, ModelNotFoundError).get("weight_map")
    except OSError:  # no index, or one that whoever reads the weights will complain of
        weights = None
    if not (directory / "config.json").is_file():
        return False
    if not isinstance(weights, dict):
        return any(path.suffix in _WEIGHTS for path in directory.iterdir())
    return all((directory / str(name)).is_file() for name in weights.values())


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
