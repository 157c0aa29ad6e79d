"""What transformers makes of a ``config.json``, kept beside the factors so that it is asked once.

Importing transformers' modelling code and building a model on the meta device takes longer than
folding a small base. What the exporter needs of it is a list of modules, which depends on the
configuration and the version of transformers only.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from exporter.base.checkpoint import CONFIG_FILE
from exporter.base.model_lock import making_a_model
from exporter.errors import CheckpointError
from exporter.io_errors import reading
from tinylora.svd.factor_store import FactorStore, read_parsed, write_whole

FORMAT = "tinylora-outline/2"


@dataclass(frozen=True)
class ModuleOutline:
    """One module of a model.

    Attributes:
        name: Qualified name, empty for the model itself.
        kind: Name of its class.
        linear: ``linear`` for ``nn.Linear`` itself, ``derived`` for a class derived from it.
        parameters: Its own parameters: name -> the first qualified name of the same tensor.
    """

    name: str
    kind: str
    linear: str | None
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Outline:
    """The modules and tensors of a model.

    Attributes:
        modules: Parents before their children, in the model's own order.
        shapes: First qualified name of each parameter -> shape.
        state: Name in the state dict -> shape; tied ones without their alias.
        tied: Names of the parameters that transformers ties to another.
        ignored: Patterns of names that a checkpoint may hold although the model has no such tensor.
        kept: Names of the linear modules that 4-bit loading leaves in 16 bits.
    """

    modules: tuple[ModuleOutline, ...]
    shapes: Mapping[str, tuple[int, ...]]
    state: Mapping[str, tuple[int, ...]]
    tied: tuple[str, ...]
    ignored: tuple[str, ...]
    kept: tuple[str, ...]

    @classmethod
    def of(cls, model: Any, skip: list[str] | None) -> Self:
        """Read off a model of transformers.

        Args:
            model: On any device, ``meta`` included.
            skip: ``llm_int8_skip_modules`` of the checkpoint.
        """
        owners = {id(p): name for name, p in model.named_parameters()}
        tied = tuple(model.all_tied_weights_keys)
        state = {n: tuple(value.shape) for n, value in model.state_dict().items() if n not in tied}
        return cls(
            modules=tuple(
                ModuleOutline(
                    name,
                    type(module).__name__,
                    _linear(module),
                    {n: owners[id(p)] for n, p in module.named_parameters(recurse=False)},
                )
                for name, module in model.named_modules()
            ),
            shapes={name: tuple(p.shape) for name, p in model.named_parameters()},
            state=state,
            tied=tied,
            ignored=tuple(sorted(model._keys_to_ignore_on_load_unexpected or ())),
            kept=_kept(model, skip),
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read :meth:`to_json` back; ValueError, KeyError or TypeError where it is not one."""
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise ValueError(f"expected the format {FORMAT}, found {found['format']!r}")
        return cls(
            modules=tuple(ModuleOutline(*module) for module in found["modules"]),
            shapes={name: tuple(shape) for name, shape in found["shapes"].items()},
            state={name: tuple(shape) for name, shape in found["state"].items()},
            tied=tuple(found["tied"]),
            ignored=tuple(found["ignored"]),
            kept=tuple(found["kept"]),
        )

    def to_json(self) -> str:
        """The outline as JSON."""
        modules = [list(asdict(module).values()) for module in self.modules]
        return json.dumps({"format": FORMAT, **asdict(self), "modules": modules})

    def model(self) -> nn.Module:
        """A model on the meta device with these modules and parameters, and no code."""
        shared = {
            name: nn.Parameter(torch.empty(shape, device="meta"), requires_grad=False)
            for name, shape in self.shapes.items()
        }
        root, *others = self.modules
        model = _module(root, shared)
        for outline in others:
            parent, _, leaf = outline.name.rpartition(".")
            model.get_submodule(parent).add_module(leaf, _module(outline, shared))
        # where transformers has it, and tinylora looks for it
        object.__setattr__(model, "all_tied_weights_keys", self.tied)
        return model


def outline_of(path: Path, config: Mapping[str, Any], store: FactorStore | None) -> Outline:
    """The outline of a checkpoint's model, from the store where it has it, else made and stored.

    Args:
        path: Directory of the checkpoint.
        config: Its config.json.
        store: None builds the model every time.

    Raises:
        CheckpointError: transformers has no such architecture, or it needs code from elsewhere.
        FactorStoreError: The store cannot be used.
    """
    skip = (config.get("quantization_config") or {}).get("llm_int8_skip_modules")
    if store is None:
        return Outline.of(_meta_model(path), skip)
    file = store.directory / f"outline-{_digest(path)}.json"
    found = read_parsed(file, Outline.from_json)
    if found is None:
        found = Outline.of(_meta_model(path), skip)
        write_whole(file, lambda temporary: temporary.write_text(found.to_json()))
    return found


def _digest(path: Path) -> str:
    """Of all that the outline depends on."""
    with reading(path):
        content = (path / CONFIG_FILE).read_bytes()
    parts = (FORMAT.encode(), version("transformers").encode(), content)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:40]


def _meta_model(path: Path) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        with making_a_model(), torch.device("meta"):
            # no dtype: torch's default, which other threads compute with, stays what it is
            model: nn.Module = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, dtype=None
            )
    except Exception as error:  # transformers raises whatever a malformed configuration leads to
        raise CheckpointError(
            f"{path / CONFIG_FILE}: transformers cannot build this architecture "
            f"({type(error).__name__}: {error}); a causal language model that needs no code of its "
            "own is expected"
        ) from error
    return model


def _kept(model: Any, skip: list[str] | None) -> tuple[str, ...]:
    """Linear modules that transformers leaves in 16 bits, by its own rule."""
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    patterns = HfQuantizer.get_modules_to_not_convert(model, skip, model._keep_in_fp32_modules)
    every = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return tuple(name for name in every if not should_convert_module(name, patterns))


def _linear(module: nn.Module) -> str | None:
    if type(module) is nn.Linear:
        return "linear"
    return "derived" if isinstance(module, nn.Linear) else None


def _module(outline: ModuleOutline, shared: Mapping[str, nn.Parameter]) -> nn.Module:
    parameters = {name: shared[owner] for name, owner in outline.parameters.items()}
    if outline.linear is None:
        # a class of the same name, for messages
        module: nn.Module = type(outline.kind, (nn.Module,), {})()
    else:
        out, into = parameters["weight"].shape
        kind = nn.Linear if outline.linear == "linear" else type(outline.kind, (nn.Linear,), {})
        module = kind(into, out, bias="bias" in parameters, device="meta")
    for name, parameter in parameters.items():
        module.register_parameter(name, parameter)
    return module
