"""What stands on the disk for an arm: directory, digest, size, and the exporter's own numbers."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evaluator.checked import Number, checked
from evaluator.config.run_config import MAX_REPETITION_PENALTY, AdapterSection, ArmConfig
from evaluator.errors import ModelError
from evaluator.store.run_directory import ArmFacts
from tinylora import DeltaOptions, adapted_layers, deltas_of, load_adapter
from tinylora.adapters.dialects import files_of
from tinylora.errors import ModelConfigError, ModelNotFoundError, TinyLoRAError
from tinylora.files.digests import file_sha256, files_sha256
from tinylora.files.json_text import read_object
from tinylora.models.embedded_adapter import ADAPTER_CONFIG
from tinylora.models.find_model import find_model
from tinylora.models.model_config import check_model_config
from tinylora.models.pretrained import load_generation_config, load_outline

_WEIGHT_SUFFIXES = (".safetensors", ".bin")
# Settings of models whose logits are more than a linear map of the last layer's output.
_BENT_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
# Of files that may change what a model computes.
_DECIDING = frozenset({*_WEIGHT_SUFFIXES, ".json", ".jinja", ".model", ".txt", ".py"})
# What the exporter says of an export; ``verify --prompts`` may add to it at any time.
_OF_THE_EXPORT = frozenset({"export_manifest.json", "fidelity.json", "retention.json"})


@dataclass(frozen=True)
class Checkpoint:
    """An arm's files.

    Attributes:
        positions: Longest context, where the configuration names one.
        vocabulary: Number of logits, likewise.
        hidden: Number of inputs that logits are a linear map of, likewise.
        quantization: Method by which the stored weights are quantized; empty where they are not.
        four_bit: Whether that is bitsandbytes' 4 bits.
    """

    directory: Path
    facts: ArmFacts
    positions: int | None
    vocabulary: int | None
    hidden: int | None
    quantization: str = ""
    four_bit: bool = False


def find_checkpoint(arm: ArmConfig) -> Checkpoint:
    """Resolve an arm's model to a local directory, read its facts, and check its artifact."""
    directory = _directory(arm)
    where = f"arm {arm.name}: {directory}"
    if not (directory / "config.json").is_file():
        raise ModelError(f"{where} has no config.json, so it is no transformers checkpoint")
    if (directory / ADAPTER_CONFIG).exists() and arm.kind != "merged":
        raise ModelError(
            f"{where} embeds an adapter ({ADAPTER_CONFIG}); an arm of kind {arm.kind} needs the "
            "base alone"
        )
    files = sorted(p for p in directory.iterdir() if p.is_file() and not p.name.startswith("."))
    weights = [p for p in files if p.suffix in _WEIGHT_SUFFIXES]
    deciding = [p for p in files if p.suffix in _DECIDING and p.name not in _OF_THE_EXPORT]
    if not weights:
        raise ModelError(f"{where} has no weight file (*.safetensors)")
    artifact = list(files_of(arm.artifact)) if arm.artifact is not None else []
    if absent := [path for path in artifact if not path.is_file()]:
        raise ModelError(f"arm {arm.name}: no artifact at {arm.artifact}: {absent[0]} is missing")
    config = _read_object(directory / "config.json")
    try:
        check_model_config(config, directory / "config.json")
    except ModelConfigError as error:
        raise ModelError(f"arm {arm.name}: {error}") from error
    fidelity = _fidelity(directory / "fidelity.json")
    stored = config.get("quantization_config")
    settings = stored if isinstance(stored, dict) else {}
    method = str(settings.get("quant_method") or "a method without a name")
    if arm.load == "nf4" and stored is not None:
        raise ModelError(
            f"{where} is quantized already ({method}), and load: nf4 quantizes a 16-bit "
            "checkpoint; use load: auto"
        )
    if arm.artifact is not None:
        _check_adapter(arm, arm.artifact, directory)
    return Checkpoint(
        directory=directory,
        facts=ArmFacts(
            name=arm.name,
            kind=str(arm.kind),
            digest=files_sha256(deciding, file_digest),
            artifact_digest=files_sha256(artifact, file_digest) if artifact else None,
            weight_bytes=sum(path.stat().st_size for path in (*weights, *artifact)),
            capture=fidelity["capture"],
            residual=fidelity["residual"],
            files={ascii(path.name)[1:-1]: file_digest(path)[:16] for path in deciding},
        ),
        quantization="" if stored is None else method,
        four_bit=bool(settings.get("load_in_4bit") or settings.get("_load_in_4bit")),
        positions=_whole(config, "max_position_embeddings"),
        vocabulary=_whole(config, "vocab_size"),
        hidden=None if any(map(config.get, _BENT_LOGITS)) else _whole(config, "hidden_size"),
    )


def own_repetition_penalty(arm: ArmConfig, checkpoint: Checkpoint) -> float:
    """What a checkpoint's ``generation_config.json`` says; 1, no penalty, where it says nothing."""
    path = checkpoint.directory / "generation_config.json"
    penalty = _read_object(path).get("repetition_penalty") if path.is_file() else None
    if penalty is None:
        return 1.0
    if not isinstance(penalty, int | float) or not 0 < penalty <= MAX_REPETITION_PENALTY:
        raise ModelError(
            f"arm {arm.name}: {path}: repetition_penalty is {penalty!r:.80}, expected a number "
            f"above 0 and up to {MAX_REPETITION_PENALTY:g}; give one in decoding.repetition_penalty"
        )
    return float(penalty)


def own_end_tokens(checkpoint: Checkpoint) -> int | list[int] | None:
    """End tokens that a checkpoint's files name, as transformers finds them."""
    directory = checkpoint.directory
    try:
        if (directory / "generation_config.json").is_file():
            settings = load_generation_config(directory)
        else:
            settings = load_outline(directory).generation_config
    except Exception as error:  # transformers raises whatever a malformed file leads to
        raise ModelError(
            f"{directory}: cannot read its generation settings: {error!r:.500}"
        ) from error
    found: int | list[int] | None = settings.eos_token_id
    return found


def delta_options(arm: ArmConfig) -> DeltaOptions:
    """How the delta of a restored arm is rebuilt."""
    return DeltaOptions(**{name: getattr(arm, name) for name in AdapterSection.model_fields})


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file, kept while it is not touched: the runs of a bench share gigabytes."""
    now = path.stat()
    return _content_digest(path.absolute(), now.st_ino, now.st_size, now.st_mtime_ns)


@cache
def _content_digest(path: Path, inode: int, size: int, modified_ns: int) -> str:
    return file_sha256(path)


def _directory(arm: ArmConfig) -> Path:
    try:
        found = find_model(arm.model)
    except ModelNotFoundError as error:
        raise ModelError(f"arm {arm.name}: {error}") from error
    if not found.is_dir():
        raise ModelError(f"arm {arm.name}: no directory {found.absolute()}")
    return found


def _check_adapter(arm: ArmConfig, artifact: Path, directory: Path) -> None:
    """Check, without any weights, that an arm's artifact is sound, complete and fits its base."""
    try:
        model = load_outline(directory)
        adapter = load_adapter(artifact)
        layers = adapted_layers(adapter, model, str(directory))
        deltas_of(adapter, [name for name, _ in layers], delta_options(arm))
    except TinyLoRAError as error:
        raise ModelError(f"arm {arm.name}: {error}") from error
    except Exception as error:  # transformers raises whatever a malformed file leads to
        raise ModelError(f"arm {arm.name}: cannot build {directory}: {error!r:.500}") from error


def _fidelity(path: Path) -> dict[str, float | None]:
    """Capture and residual as the exporter wrote them; None where it wrote none."""
    try:
        total = _read_object(path)["total"] if path.is_file() else {}
        found = {name: total.get(name) for name in ("capture", "residual")}
        return checked(dict[str, Number | None], found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}: expected an object with numbers total.capture and total.residual ({error!r})"
        ) from error


def _whole(config: dict[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) else None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, ModelError)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
