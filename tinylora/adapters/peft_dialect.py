"""What the dialects of PEFT share: adapters that store their factors and name their modules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from tinylora.adapters.options import DeltaOptions, TrainedOn
from tinylora.adapters.peft_directory import PREFIX, base_name, open_weights
from tinylora.errors import OptionsError, TargetMismatchError
from tinylora.svd.factor_store import FactorStore


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
        return base_name(self.config.base)

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
