"""The dialects of adapters, and what every user of adapters calls.

======================  ============================================  =======================
dialect                 on disk                                       what it stores
======================  ============================================  =======================
upstream's TinyLoRA     ``tiny_lora_v.pt``                            v and a seed
PEFT's TinyLoRA         a directory                                   v, A, B, and P or a seed
LoRA                    a directory                                   A and B
======================  ============================================  =======================
"""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tinylora.adapters.adapter import Adapter, Dialect, ModuleDeltas
from tinylora.adapters.inspection import Inspection
from tinylora.adapters.lora.deltas import LORA
from tinylora.adapters.options import DeltaOptions, TrainedOn
from tinylora.adapters.peft.deltas import PEFT_TINYLORA
from tinylora.adapters.peft_directory import CONFIG_FILE, adapter_files, method_of
from tinylora.adapters.upstream.dialect import UPSTREAM
from tinylora.errors import ArtifactError, ArtifactMissingError
from tinylora.svd.factor_store import FactorStore

DIALECTS: tuple[Dialect, ...] = (UPSTREAM, PEFT_TINYLORA, LORA)


def load_adapter(path: str | Path) -> Adapter:
    """Read upstream's file, a directory that holds one, or a PEFT TinyLoRA's or LoRA's directory.

    Raises:
        ArtifactMissingError: Nothing is there, or more than one file that could be meant.
        ArtifactError: It cannot be used; nothing in it was run.
    """
    path = Path(path)
    for dialect in DIALECTS:
        if dialect.reads(path):
            adapter: Adapter = dialect.load(path)
            return adapter
    if not (path / CONFIG_FILE).exists():
        raise ArtifactMissingError(
            f"{path}: holds neither tiny_lora_v.pt nor a PEFT adapter's {CONFIG_FILE}; give "
            "the file or directory that training wrote"
        )
    raise ArtifactError(
        f"{path / CONFIG_FILE}: peft_type is {method_of(path)!r:.100}, expected 'TINYLORA' or "
        "'LORA'; other PEFT methods are not read here, merge those with PEFT"
    )


def files_of(path: str | Path) -> tuple[Path, ...]:
    """The files that an adapter at a path consists of, whether they are there or not."""
    path = Path(path)
    found = (dialect.files(path) for dialect in DIALECTS if dialect.reads(path))
    return next(found, adapter_files(path))


def adapted_layers(adapter: Adapter, model: nn.Module, where: str) -> list[tuple[str, nn.Module]]:
    """The linear layers that an adapter changes, ``(qualified name, module)`` in its own order.

    The base ``model`` may be on any device, ``meta`` included; ``where`` names it in the
    TargetMismatchError that it is not the base of training.
    """
    return _dialect_of(adapter).layers(adapter, model, where)


def deltas_of(
    adapter: Adapter,
    names: Sequence[str],
    options: DeltaOptions | None = None,
    store: FactorStore | None = None,
) -> ModuleDeltas:
    """The deltas of an adapter on layers that :func:`adapted_layers` names.

    ``options`` are of upstream's dialect; factors are kept in ``store``.

    Raises:
        ProjectionError: The random stream cannot be reproduced as asked.
        OptionsError: Options of upstream's dialect for another adapter.
    """
    return _dialect_of(adapter).deltas(adapter, names, options, store)


def inspect_adapter(adapter: Adapter, trained_on: TrainedOn | None = None) -> Inspection:
    """What is in an adapter and looks odd; ``trained_on`` None: weights as its files say."""
    return _dialect_of(adapter).inspect(adapter, trained_on or adapter.trained_on)


def _dialect_of(adapter: Adapter) -> Dialect:
    return next(dialect for dialect in DIALECTS if isinstance(adapter, dialect.kind))
