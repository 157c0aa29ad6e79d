"""Upstream's dialect: the file that its trainers write, one vector and the seed of projections."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tinylora.adapters.inspection import Inspection
from tinylora.adapters.options import DeltaOptions, TrainedOn
from tinylora.adapters.peft_directory import CONFIG_FILE
from tinylora.adapters.upstream.artifact import Artifact, load_artifact
from tinylora.adapters.upstream.deltas import AdapterDeltas
from tinylora.adapters.upstream.inspect import inspect
from tinylora.adapters.upstream.targets import check_target_count, target_modules
from tinylora.errors import ArtifactMissingError
from tinylora.svd.factor_store import FactorStore

# What the trainers leave in their output directory.
_NAMES = ("tiny_lora_v.pt", "best_tiny_lora_v.pt")


class UpstreamDialect:
    """See :class:`tinylora.adapters.adapter.Dialect`."""

    kind = Artifact

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """The artifact, also where its directory is given."""
        if not path.is_dir():
            return (path,)
        if (path / CONFIG_FILE).exists():
            return None
        found = tuple(path / name for name in _NAMES if (path / name).is_file())
        if len(found) > 1:
            raise ArtifactMissingError(
                f"{path}: holds {' and '.join(file.name for file in found)}; name the file that "
                "you mean (the best one is of an earlier step than the last)"
            )
        return found or None

    def reads(self, path: Path) -> bool:
        """Whether there is an artifact, or no directory."""
        return self.files(path) is not None

    def load(self, path: Path) -> Artifact:
        """Read an artifact, or the one in a directory."""
        (file,) = self.files(path) or (path,)
        return load_artifact(file)

    def layers(
        self, adapter: Artifact, model: nn.Module, where: str
    ) -> list[tuple[str, nn.Module]]:
        """All linear layers of certain names, in the order of the random stream."""
        layers = target_modules(model)
        check_target_count(adapter, [name for name, _ in layers], where)
        return layers

    def deltas(
        self,
        adapter: Artifact,
        names: Sequence[str],
        options: DeltaOptions | None,
        store: FactorStore | None,
    ) -> AdapterDeltas:
        """Deltas that are made from the weights' singular vectors."""
        return AdapterDeltas(adapter, names, options, store)

    def inspect(self, adapter: Artifact, trained_on: TrainedOn) -> Inspection:
        """See :func:`tinylora.adapters.upstream.inspect.inspect`."""
        return inspect(adapter)
