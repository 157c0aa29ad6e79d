"""The two dialects of TinyLoRA, and the one place where they are told apart.

======================  ============================================  =======================
dialect                 on disk                                       what it stores
======================  ============================================  =======================
upstream's              ``tiny_lora_v.pt``, see ``artifact``          v and a seed
PEFT's                  a directory, see ``peft_adapter``             v, A, B, and P or a seed
======================  ============================================  =======================
"""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tinylora.adapters.low_rank import ModuleDeltas
from tinylora.adapters.peft.adapter import PeftAdapter, adapter_files, load_peft_adapter
from tinylora.adapters.peft.config import CONFIG_FILE
from tinylora.adapters.peft.deltas import PeftDeltas, stored_layers
from tinylora.adapters.upstream.artifact import Artifact, load_artifact
from tinylora.adapters.upstream.delta import AdapterDeltas
from tinylora.adapters.upstream.options import DeltaOptions
from tinylora.adapters.upstream.targets import check_target_count, target_modules
from tinylora.errors import ArtifactMissingError, OptionsError
from tinylora.svd.factor_store import FactorStore

Adapter = Artifact | PeftAdapter

# What upstream's trainers leave in their output directory.
_ARTIFACT_FILES = ("tiny_lora_v.pt", "best_tiny_lora_v.pt")


def load_adapter(path: str | Path) -> Adapter:
    """Read an adapter of either dialect.

    Args:
        path: A file in upstream's format, a directory that holds one, or the directory of a PEFT
            TinyLoRA adapter.

    Raises:
        ArtifactMissingError: Nothing is there, or more than one file that could be meant.
        ArtifactError: It cannot be used; nothing in it was run.
    """
    path = _file_in(Path(path))
    if not path.is_dir():
        return load_artifact(path)
    if not (path / CONFIG_FILE).exists():
        raise ArtifactMissingError(
            f"{path}: holds neither {_ARTIFACT_FILES[0]} nor a PEFT adapter's {CONFIG_FILE}; give "
            "the file or directory that training wrote"
        )
    return load_peft_adapter(path)


def files_of(path: str | Path) -> tuple[Path, ...]:
    """The files that an adapter at a path consists of, whether they are there or not."""
    path = _file_in(Path(path))
    return adapter_files(path) if path.is_dir() else (path,)


def _file_in(path: Path) -> Path:
    """The artifact in a directory of upstream's; every other path as it is."""
    found = [path / name for name in _ARTIFACT_FILES if (path / name).is_file()]
    if not found or (path / CONFIG_FILE).exists():
        return path
    if len(found) > 1:
        raise ArtifactMissingError(
            f"{path}: holds {' and '.join(file.name for file in found)}; name the file that you "
            "mean (the best one is of an earlier step than the last)"
        )
    return found[0]


def adapted_layers(adapter: Adapter, model: nn.Module, where: str) -> list[tuple[str, nn.Module]]:
    """The linear layers that an adapter changes, in its own order.

    Args:
        adapter: The adapter.
        model: The base, on any device, ``meta`` included.
        where: The model or directory, for messages.

    Returns:
        ``(qualified name, module)``.

    Raises:
        TargetMismatchError: This is not the base that it was trained on.
    """
    match adapter:
        case Artifact():
            layers = target_modules(model)
            check_target_count(adapter, [name for name, _ in layers], where)
            return layers
        case PeftAdapter():
            return stored_layers(adapter, model, where)


def deltas_of(
    adapter: Adapter,
    names: Sequence[str],
    options: DeltaOptions | None = None,
    store: FactorStore | None = None,
) -> ModuleDeltas:
    """The deltas of an adapter.

    Args:
        adapter: The adapter.
        names: Names of its layers, from :func:`adapted_layers`.
        options: How to rebuild what upstream's dialect does not store.
        store: Where factors are kept; None computes them every time.

    Raises:
        ProjectionError: The random stream cannot be reproduced as asked.
        OptionsError: Options of upstream's dialect for a PEFT adapter.
    """
    match adapter:
        case Artifact():
            return AdapterDeltas(adapter, names, options, store)
        case PeftAdapter():
            _refuse_options(adapter, options or DeltaOptions())
            return PeftDeltas(adapter, names)


def _refuse_options(adapter: PeftAdapter, options: DeltaOptions) -> None:
    default = DeltaOptions()
    for name in ("formula", "rng", "svd", "numerics", "placement"):
        value = getattr(options, name)
        if value != getattr(default, name):
            raise OptionsError(
                f"{adapter.path}: {name} {value!r} does not apply to a PEFT adapter, which stores "
                "its own factors; leave it out"
            )
