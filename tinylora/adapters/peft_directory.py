"""A PEFT adapter's directory, and what the dialects of PEFT share.

adapter_config.json and adapter_model.safetensors are untrusted input: only JSON and safetensors are
read, and every size is known from a header before anything is made. The adapters store their
factors and name their modules.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tinylora.adapters.options import DeltaOptions, TrainedOn
from tinylora.errors import (
    ArtifactError,
    ArtifactMissingError,
    OptionsError,
    TargetMismatchError,
)
from tinylora.files.json_text import read_object
from tinylora.svd.factor_store import FactorStore

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."

_MAX_WEIGHT_BYTES = 1 << 34
_MAX_CONFIG_BYTES = 1 << 20
_FLOATS = ("F32", "BF16", "F16", "F64")
_EMPTY: tuple[object, ...] = (None, False, [], {}, "")

Config = TypeVar("Config", bound="AdapterConfig")


def adapter_files(directory: Path) -> tuple[Path, Path]:
    """The two files that make an adapter."""
    return directory / CONFIG_FILE, directory / WEIGHTS_FILE


def method_of(path: Path) -> object:
    """PEFT's name of an adapter's method, such as ``LORA``; None where there is no adapter."""
    return _content(path / CONFIG_FILE).get("peft_type") if (path / CONFIG_FILE).exists() else None


def _content(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ArtifactMissingError(
            f"{file}: no such file; expected the directory of a PEFT adapter"
        )
    try:
        return read_object(file, ArtifactError, _MAX_CONFIG_BYTES)
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read ({error})") from error


def _one_line(base: str | None) -> str | None:
    if base is not None and not base.isprintable():
        raise ValueError("expected one line of text, a hub id")
    return base


class AdapterConfig(BaseModel):
    """The fields of an adapter_config.json that decide a delta.

    Attributes:
        without_effect: Others that only training needs, or that only say which modules were chosen.
    """

    model_config = ConfigDict(strict=True, frozen=True)
    without_effect: ClassVar[frozenset[str]]
    base_model_name_or_path: Annotated[str | None, AfterValidator(_one_line)] = None

    @property
    def base(self) -> str:
        """``base_model_name_or_path``, empty where none is named."""
        return self.base_model_name_or_path or ""


def read_config(directory: Path, kind: type[Config]) -> Config:
    """Read and check a configuration; an ArtifactError names a missing, wrong or unknown field."""
    path = directory / CONFIG_FILE
    content = _content(path)
    known = kind.model_fields.keys() | kind.without_effect
    for name, value in sorted(content.items()):
        if not (name in known or value in _EMPTY or (name, value) == ("bias", "none")):
            raise ArtifactError(
                f"{path}: {name} is {value!r:.200}, expected none: it changes the model in an "
                "unknown way; merge this adapter with PEFT, or train one without it"
            )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        words = problem["msg"].replace("Input should be", "expected").removeprefix("Value error, ")
        if problem["loc"]:
            field = "".join(f"[{key!r:.100}]" for key in problem["loc"][1:] if key != "[key]")
            found = "missing" if problem["type"] == "missing" else f"{problem['input']!r:.200}"
            words = f"{problem['loc'][0]}{field} is {found}, {words}"
        raise ArtifactError(f"{path}: {words}") from error


@dataclass(frozen=True)
class Weights:
    """An open weight file: its path, safetensors' view of it, and each tensor's shape."""

    file: Path
    opened: Any
    shapes: Mapping[str, tuple[int, ...]]

    def refuse(self, name: str, problem: str) -> NoReturn:
        """Raise what is wrong with a tensor."""
        raise ArtifactError(f"{self.file}: tensor {name!r} {problem}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor that must be there."""
        if name not in self.shapes:
            self.refuse(name, "is missing; copy the adapter again")
        return self.shapes[name]

    def check_finite(self) -> None:
        """Refuse infinities and NaN."""
        for name in self.shapes:
            if not bool(torch.isfinite(self.opened.get_tensor(name)).all()):
                self.refuse(name, "has non-finite values; training diverged or it is damaged")


@contextmanager
def open_weights(directory: Path) -> Iterator[Weights]:
    """The weight file of an adapter, whose tensors are floating point.

    An ArtifactError if it is a pickle, damaged or oversized, now or while it is read.
    """
    file, pickled = directory / WEIGHTS_FILE, directory / "adapter_model.bin"
    if not file.is_file() and pickled.is_file():
        raise ArtifactError(
            f"{pickled}: a pickle, which can run code when it is loaded, is never read; save the "
            f"adapter again as {WEIGHTS_FILE} (save_pretrained with safe_serialization=True)"
        )
    if not file.is_file():
        raise ArtifactMissingError(f"{file}: no such file; copy the whole adapter directory")
    if (size := file.stat().st_size) > _MAX_WEIGHT_BYTES:
        raise ArtifactError(
            f"{file}: {size} bytes, expected at most {_MAX_WEIGHT_BYTES}; is this a checkpoint?"
        )
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            views = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            weights = Weights(file, opened, {n: tuple(v.get_shape()) for n, v in views.items()})
            for name, view in views.items():
                if (dtype := view.get_dtype()) not in _FLOATS:
                    weights.refuse(name, f"has dtype {dtype}, expected one of {', '.join(_FLOATS)}")
            yield weights
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{file}: not a readable safetensors file ({error}); copy it again"
        ) from error


@dataclass(frozen=True, eq=False)
class StoredAdapter:
    """A checked adapter; its factors stay in the file until they are asked for.

    Attributes:
        path: Its directory.
        config: What its adapter_config.json says.
        shapes: Module -> ``(out, in, r)``, in the order of the names.
        sha256: Hex digest over the names and digests of its two files.
    """

    trained_on: ClassVar[TrainedOn] = "16bit"  # the files tell nothing else
    made_from_weights: ClassVar[bool] = False
    path: Path
    config: Any
    shapes: Mapping[str, tuple[int, int, int]]
    sha256: str

    @property
    def model_id(self) -> str:
        """The base's name: a hub id, the last part of a path, or nothing."""
        base = self.config.base
        is_hub_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", base) is not None
        return base if is_hub_id else re.split(r"[/\\]", base.rstrip("/\\"))[-1]

    def read(self, module: str, leaves: Sequence[str]) -> list[Tensor]:
        """Tensors of a module, in the file's dtypes; an ArtifactError if the file has changed."""
        with open_weights(self.path) as weights:
            return [weights.opened.get_tensor(f"{PREFIX}{module}.{leaf}") for leaf in leaves]


class StoredDeltas:
    """Part of a :class:`tinylora.adapters.adapter.ModuleDeltas`: there is nothing to decide.

    An OptionsError for options of upstream's dialect.
    """

    resolved: None = None
    doubts: tuple[str, ...] = ()

    def __init__(
        self,
        adapter: Any,
        names: Sequence[str],
        options: DeltaOptions | None = None,
        store: FactorStore | None = None,
    ) -> None:
        default = DeltaOptions()
        for name in ("formula", "rng", "svd", "numerics", "placement"):
            value = getattr(options or default, name)
            if value != getattr(default, name):
                raise OptionsError(
                    f"{adapter.path}: {name} {value!r} does not apply to a PEFT adapter, which "
                    "stores its own factors; leave it out"
                )
        self.adapter, self.names = adapter, tuple(names)
        self.vectors: Tensor = adapter.vectors
        self.weight_tying: float = adapter.weight_tying


def named_layers(
    adapter: StoredAdapter, model: nn.Module, where: str
) -> list[tuple[str, nn.Module]]:
    """The layers that the file names, in the base's order.

    Raises:
        TargetMismatchError: A module is missing, of another shape, no linear layer, or shares
            its weight with another module.
    """
    found = {name: layer for name, layer in model.named_modules() if name in adapter.shapes}
    tied, trained_on = _tied(model), adapter.model_id or "it names none"
    for name, (out, into, _) in adapter.shapes.items():
        layer = found.get(name)
        if layer is None:
            problem = f"has no module {name}, which"
            remedy = f"changes; give the base that it was trained on ({trained_on})"
        # Linear4bit derives from nn.Linear; Embedding and Conv1D do not
        elif not isinstance(layer, nn.Linear):
            problem = f"{name} is a {type(layer).__name__}, no linear layer;"
            remedy = "must be merged with PEFT"
        elif (layer.out_features, layer.in_features) != (out, into):
            problem = f"{name} is {layer.out_features} x {layer.in_features}, but"
            remedy = f"has a delta of {out} x {into}; give the base that it was trained on"
        elif f"{name}.weight" in tied:
            problem = f"the weight of {name} is tied to another module's, which"
            remedy = "would change too, so it cannot be used on this base"
        else:
            continue
        raise TargetMismatchError(f"{where}: {problem} {adapter.path} {remedy}")
    return list(found.items())


def about_training(adapter: StoredAdapter, trained_on: TrainedOn, if_16bit: str) -> Iterator[str]:
    """Remarks on the base of training, and on what its weights were."""
    if not adapter.config.base:
        yield "names no base model: nothing can warn of a wrong one but the shapes"
    if trained_on == "16bit":
        yield f"{if_16bit}, say --trained-on 4bit"
    else:
        yield "made by an export from an adapter that was trained on the base in 4 bits"


def _tied(model: nn.Module) -> set[str]:
    """Names of the parameters that are one and the same tensor as another one."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    shared = {name for names in owners.values() if len(names) > 1 for name in names}
    # transformers' own list, for models on the meta device
    return shared | set(getattr(model, "all_tied_weights_keys", ()))
