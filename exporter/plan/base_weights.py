"""What weights training had, and what an export adds the delta to; earlier exports as inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from exporter.base.checkpoint import Checkpoint, read_json
from exporter.errors import CheckpointError, PlanError
from exporter.output.workspace import MANIFEST_FILE
from exporter.request import ExportRequest
from tinylora import DeltaOptions
from tinylora.adapters.adapter import Adapter
from tinylora.adapters.options import TrainedOn


@dataclass(frozen=True)
class BaseWeights:
    """What weights training had (whose singular vectors the delta has), and what is added to.

    The defaults are those of upstream's trainers.

    Attributes:
        as_stored: Whether 16-bit weights are taken as the file has them. Upstream's trainer loads
            them in bfloat16, PEFT's users in any dtype.
    """

    trained_on: TrainedOn = "4bit"
    fold_onto: Literal["dequantized", "original"] = "dequantized"
    as_stored: bool = False


def trained_on(adapter: Adapter, options: DeltaOptions) -> TrainedOn:
    """What training had: by the option, else as recorded in an export, else by the adapter."""
    if options.trained_on != "auto":
        return options.trained_on
    recorded = _manifest(adapter.path).get("options")
    earlier = recorded.get("trained_on") if isinstance(recorded, dict) else None
    return earlier if earlier in ("4bit", "16bit") else adapter.trained_on


def base_weights_of(adapter: Adapter, base: Checkpoint, request: ExportRequest) -> BaseWeights:
    """Decide what an export stands on; PlanError where the base does not have such weights."""
    trained = trained_on(adapter, request.options)
    if base.is_4bit and adapter.made_from_weights and trained == "16bit":
        raise PlanError(
            f"{base.path}: is in 4 bits, and {adapter.path} was trained on 16-bit weights, from "
            "which its factors are made; give the 16-bit base"
        )
    if base.is_4bit and request.fold_onto == "original":
        raise PlanError(
            f"{base.path}: is in 4 bits, and --fold-onto original needs the 16-bit base; give it"
        )
    if request.fold_onto != "auto":
        fold_onto = request.fold_onto
    else:
        fold_onto = "original" if trained == "16bit" and not base.is_4bit else "dequantized"
    from_trainer = adapter.made_from_weights and trained == "16bit"
    return BaseWeights(trained, fold_onto, as_stored=fold_onto == "original" and not from_trainer)


def refuse_merged(adapter: Adapter, base: Checkpoint) -> None:
    """Refuse a base that is an earlier export of the same adapter: it would be added twice.

    One in which nothing of the delta was stored is still the base.
    """
    manifest = _manifest(base.path)
    artifact, fidelity = manifest.get("artifact"), manifest.get("fidelity")
    if not isinstance(artifact, dict) or artifact.get("sha256") != adapter.sha256:
        return
    if not isinstance(fidelity, dict) or fidelity.get("capture"):
        raise CheckpointError(
            f"{base.path / MANIFEST_FILE}: the base has this adapter (sha256 "
            f"{adapter.sha256[:16]}...) in it, which would be added a second time; give the one "
            "that it was trained on"
        )


def _manifest(directory: Path) -> Mapping[str, Any]:
    """The manifest of an export; empty where there is none."""
    try:
        return read_json(directory / MANIFEST_FILE)
    except CheckpointError:
        return {}
