"""What an export is made from: the request, the adapter, the base and what is known of both."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.base.architecture import Architecture, read_architecture
from exporter.base.carried_files import check_side_files
from exporter.base.checkpoint import Checkpoint, open_checkpoint
from exporter.errors import CheckpointError, reading
from exporter.formats.format import Format
from exporter.formats.fused import whole_groups
from exporter.plan.base_weights import BaseWeights, base_weights_of, refuse_merged
from exporter.plan.plan import ExportPlan, build_plan
from exporter.progress import Stopwatch
from exporter.request import ExportRequest
from tinylora import FactorStore, ModuleDeltas, adapted_layers, deltas_of, load_adapter
from tinylora.adapters.adapter import Adapter
from tinylora.adapters.peft_directory import CONFIG_FILE as ADAPTER_CONFIG_FILE

_TIED = "tie_word_embeddings"


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of an export, read and checked; ``digests`` of the base come later."""

    request: ExportRequest
    adapter: Adapter
    base: Checkpoint
    architecture: Architecture
    weights: BaseWeights
    deltas: ModuleDeltas
    store: FactorStore | None
    watch: Stopwatch
    digests: Future[dict[str, str]]

    def plan(self, layout: Format) -> ExportPlan:
        """What a format would write."""
        return build_plan(
            self.base,
            self.architecture,
            layout,
            sizes=self.adapter.sizes,
            weights=self.weights,
            max_shard_size=self.request.max_shard_size,
        )


def read_inputs(request: ExportRequest, scratch: Path) -> Inputs:
    """Read and check all inputs but texts; ``scratch`` holds what is needed meanwhile."""
    adapter = load_adapter(request.artifact)
    base = open_checkpoint(request.base)
    if (base.path / ADAPTER_CONFIG_FILE).exists():
        raise CheckpointError(
            f"{base.path / ADAPTER_CONFIG_FILE}: the base has an adapter already; give it without"
        )
    refuse_merged(adapter, base)
    with reading(base.path):
        check_side_files(base.path)
    weights = base_weights_of(adapter, base, request)
    request = replace(request, fold_onto=weights.fold_onto)
    # what is decided first, or checked last, needs factors twice
    twice = request.leaves_open or request.check_prompts is not None
    kept_in = request.factor_store or (scratch / "factors" if twice else None)
    store, watch = None if kept_in is None else FactorStore(kept_in), Stopwatch()
    if store is not None:
        store.make_directory()  # one that cannot be used is said first
    digests = _hash_in_background(base, watch)
    architecture = read_architecture(
        base.path,
        base.config,
        lambda model: [name for name, _ in adapted_layers(adapter, model, str(base.path))],
        base.tensors,
    )
    base, architecture = _with_own_heads(base.renamed(architecture.renamed), architecture)
    layers = {*architecture.linears, *architecture.targets}
    request = replace(request, keep=whole_groups(request.keep, layers))
    deltas = deltas_of(adapter, architecture.targets, request.options, store)
    return Inputs(request, adapter, base, architecture, weights, deltas, store, watch, digests)


def _with_own_heads(
    base: Checkpoint, architecture: Architecture
) -> tuple[Checkpoint, Architecture]:
    """Untie what config.json ties and the files hold with other values, as transformers does."""
    tied = architecture.tied.items()
    both = [(alias, name) for alias, name in tied if {alias, name} <= base.tensors.keys()]
    own = tuple(alias for alias, name in both if not base.equal(alias, name))
    if not own:
        return base, architecture
    config = {**base.config, _TIED: False}
    if isinstance(inner := config.get("text_config"), dict) and _TIED in inner:
        config["text_config"] = {**inner, _TIED: False}
    shapes = {alias: architecture.parameters[architecture.tied[alias]] for alias in own}
    untied = {alias: name for alias, name in tied if alias not in own}
    architecture = replace(
        architecture,
        parameters={**architecture.parameters, **shapes},
        tied=untied,
        own_heads=own,
    )
    return replace(base, config=config), architecture


def _hash_in_background(base: Checkpoint, watch: Stopwatch) -> Future[dict[str, str]]:
    """Digests of weight files; a program that ends early does not wait for the thread."""
    found: Future[dict[str, str]] = Future()

    def run() -> None:
        try:
            with watch.timed("hash"):
                found.set_result(base.digests())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return found
