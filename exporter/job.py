"""request -> job: inputs are read and checked, what is left open is decided, the plan is built."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from exporter.base.architecture import Architecture, read_architecture
from exporter.base.checkpoint import Checkpoint, open_checkpoint
from exporter.base.digests import hash_in_background
from exporter.choose.decide import Decision, decide, leaves_open
from exporter.compare.prompts import PromptSet, read_prompts
from exporter.documents.carried_files import carried_files
from exporter.documents.manifest import Provenance, base_digests, collect_provenance
from exporter.errors import CheckpointError
from exporter.io_errors import reading
from exporter.plan.ground import Ground, ground_of, refuse_merged
from exporter.plan.plan import ExportPlan, build_plan
from exporter.progress import Progress, Steps, Stopwatch
from exporter.request import ExportRequest
from tinylora import FactorStore, ModuleDeltas, adapted_layers, deltas_of, load_adapter
from tinylora.adapters.adapter import Adapter
from tinylora.adapters.peft_directory import CONFIG_FILE as ADAPTER_CONFIG_FILE
from tinylora.workers import single_threaded


@dataclass(frozen=True, eq=False)
class Job:
    """The inputs of an export.

    Attributes:
        request: What was asked for, nothing left open.
        artifact: The adapter.
        base: Its base.
        architecture: The base's modules.
        ground: What weights training had, and what the export stands on.
        plan: What will be written.
        store: Where factors are kept.
        deltas: The adapter's deltas.
        watch: Times the stages.
        provenance: Gives what decides the output's bytes; waits for the digests of the base.
        decision: What was decided, and why.
        check_prompts: Texts for the retention.
    """

    request: ExportRequest
    artifact: Adapter
    base: Checkpoint
    architecture: Architecture
    ground: Ground
    plan: ExportPlan
    store: FactorStore | None
    deltas: ModuleDeltas
    watch: Stopwatch
    provenance: Callable[[], Provenance]
    decision: Decision
    check_prompts: PromptSet | None


def prepare(
    request: ExportRequest,
    scratch: Path,
    progress: Callable[[Progress], None],
) -> Job:
    """Read all inputs, decide what is open and build the plan; no output is written.

    Args:
        request: What to export.
        scratch: A directory for what is needed meanwhile.
        progress: Called after each step of a decision.

    Raises:
        TinyLoRAError: See :mod:`exporter.errors` and :mod:`tinylora.errors`.
    """
    artifact = load_adapter(request.artifact)
    base = open_checkpoint(request.base)
    if (base.path / ADAPTER_CONFIG_FILE).exists():
        raise CheckpointError(
            f"{base.path / ADAPTER_CONFIG_FILE}: the base carries an adapter already, which "
            "transformers would load too; give the plain base"
        )
    refuse_merged(artifact, base)
    with reading(base.path):
        carried_files(base.path, frozenset())  # names that cannot be carried are said first
    ground = ground_of(artifact, base, request)
    request = replace(request, fold_onto=ground.fold_onto)
    # used late; what is wrong with them is said first
    prompts, check_prompts = (
        None if texts is None else read_prompts(texts, base.path)
        for texts in (request.goal.prompts, request.goal.check_prompts)
    )
    watch = Stopwatch()
    store = _store(request, scratch)
    digests = hash_in_background(base, watch)
    architecture = read_architecture(
        base.path,
        base.config,
        lambda model: [name for name, _ in adapted_layers(artifact, model, str(base.path))],
        store,
    )
    deltas = deltas_of(artifact, architecture.targets, request.options, store)
    steps = Steps(progress, 2 * len(architecture.targets))
    with single_threaded() as threads:
        decision = decide(
            request,
            base,
            architecture,
            artifact.sizes,
            deltas,
            ground,
            prompts,
            scratch,
            threads,
            steps.step,
        )
    request = decision.request
    plan = build_plan(
        base,
        architecture,
        request.layout,
        sizes=artifact.sizes,
        ground=ground,
        max_shard_size=request.max_shard_size,
    )

    @cache
    def provenance() -> Provenance:
        found = base_digests(base, digests.result())
        return collect_provenance(request, found, artifact, deltas.resolved, ground.trained_on)

    return Job(
        request=request,
        artifact=artifact,
        base=base,
        architecture=architecture,
        ground=ground,
        plan=plan,
        store=store,
        deltas=deltas,
        watch=watch,
        provenance=provenance,
        decision=decision,
        check_prompts=check_prompts,
    )


def _store(request: ExportRequest, scratch: Path) -> FactorStore | None:
    """Where factors are kept; what is decided first, or checked last, needs them twice."""
    if request.factor_store is not None:
        return FactorStore(request.factor_store)
    twice = leaves_open(request) or request.goal.check_prompts is not None
    return FactorStore(scratch / "factors") if twice else None
