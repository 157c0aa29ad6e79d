"""An export from start to end: request -> plan -> files -> measures -> documents -> directory."""

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from exporter.choose.trials import Choice
from exporter.compare.retention import Retention, measure_retention
from exporter.documents.warnings import output_residual, warnings_of
from exporter.documents.write_documents import base_files, write_documents, write_model_files
from exporter.errors import CaptureError, RetentionError, reading
from exporter.fidelity import FidelityReport, ModuleFidelity, Verdict
from exporter.fold.write_units import UnitMaker
from exporter.formats.encoding import ModuleUnit
from exporter.output.workspace import Workspace, check_replaceable, open_workspace
from exporter.plan.plan import OutputFile
from exporter.prepare import Prepared, prepare
from exporter.progress import Progress, Stage, Steps
from exporter.provenance import key_of
from exporter.request import ExportRequest, check_request
from exporter.safetensors.writer import check_header
from tinylora import ResolvedOptions
from tinylora.files.scratch import scratch_directory
from tinylora.workers import in_order, single_threaded, workers_for

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportReport:
    """What an export made.

    Attributes:
        resolved: How the delta was rebuilt; None where the adapter left no choice.
        files: SHA-256 of every file by name.
        seconds: What this run's threads spent in each stage.
        choice: What the exporter chose itself, and why; None where there was nothing to choose.
        retention: Token-level comparison on the goal's ``check_prompts``.
    """

    out: Path
    format: str
    resolved: ResolvedOptions | None
    fidelity: FidelityReport
    files: dict[str, str]
    warnings: tuple[str, ...]
    seconds: Mapping[Stage, float]
    choice: Choice | None = None
    retention: Retention | None = None

    @property
    def verdict(self) -> Verdict:
        """In a word, whether the stored weights hold the delta."""
        return self.fidelity.verdict

    @property
    def effect_measured(self) -> bool:
        """Whether texts say what became of a delta, which weights alone say less well."""
        on_texts = output_residual(self.choice, self.retention)
        return self.verdict != "empty" and on_texts is not None


def export(
    request: ExportRequest, progress: Callable[[Progress], None] | None = None
) -> ExportReport:
    """Export an artifact on its base as a checkpoint; the output directory is complete then.

    Raises:
        TinyLoRAError: See :mod:`exporter.errors` and :mod:`tinylora.errors`; no output directory
            is left then. After an interruption, and where reading or writing failed, the working
            directory stays, and the same call goes on where it stopped.
    """
    check_request(request)
    check_replaceable(request.out, request.overwrite)
    progress = progress or (lambda step: None)
    with scratch_directory("export") as scratch:
        job, overwrite = prepare(request, scratch, progress), request.overwrite
        with open_workspace(request.out, lambda: key_of(job.provenance), overwrite) as workspace:
            report = _run(job, workspace, progress)
            workspace.publish(overwrite)
            return report


def _run(job: Prepared, workspace: Workspace, progress: Callable[[Progress], None]) -> ExportReport:
    layout = job.request.layout
    base = job.inputs.base.path
    carried = base_files(layout, base)
    with reading(base):
        size = sum(path.stat().st_size for path in carried.values())
    workspace.check_room(job.plan.max_bytes + size)
    steps = Steps(progress, len(job.plan.targets))
    with single_threaded() as threads:
        for file in job.plan.files:
            _make_file(job, file, workspace, steps, threads)
    finished = workspace.finished
    folds = {module.module: module for file in finished.values() for module in file.modules}
    size = sum((workspace.path / name).stat().st_size for name in finished)
    fidelity = FidelityReport(tuple(folds[name] for name in job.plan.targets), size)
    _require_capture(job.request, fidelity)
    headers = write_model_files(job, carried, workspace)
    retention = _retention(job, workspace)
    warnings = warnings_of(job, fidelity, retention)
    write_documents(job, carried, headers, fidelity, warnings, retention, workspace)
    for warning in warnings:
        _log.warning("%s", warning)
    return ExportReport(
        out=workspace.out,
        format=layout.name,
        resolved=job.inputs.deltas.resolved,
        fidelity=fidelity,
        files=workspace.digests(),
        warnings=warnings,
        seconds=job.inputs.watch.seconds,
        choice=job.choice,
        retention=retention,
    )


def _retention(job: Prepared, workspace: Workspace) -> Retention | None:
    """Compare the export with the restored model, where texts were given for that."""
    prompts = job.check_prompts
    if prompts is None:
        return None
    found = measure_retention(
        workspace.path,
        job.inputs.base.path,
        job.request.artifact,
        job.request.options,
        prompts,
        job.inputs.store,
        in_4_bits=job.request.layout.stands_on_4_bits,
    )
    wanted = job.request.require_retention
    if wanted is not None and (shortfall := found.shortfall(wanted)) is not None:
        raise RetentionError(f"{job.request.out}: {shortfall}; nothing was written")
    return found


def _make_file(
    job: Prepared, file: OutputFile, workspace: Workspace, steps: Steps, threads: int
) -> None:
    """Write one file and measure it, or take it over from a run that was killed."""
    earlier = workspace.finished.get(file.name)
    if earlier is not None:
        for module in earlier.modules:
            steps.step("fold", module.module)
        return
    path, inputs, modules = workspace.path / file.name, job.inputs, list[ModuleFidelity]()
    weights = [unit.shape for unit in file.units if isinstance(unit, ModuleUnit)]
    largest = max((height * width for height, width in weights), default=0)
    with file.form.writer(path, file.specs) as writer:
        maker = UnitMaker(inputs, writer, job.moments)
        making = in_order(maker.make, file.units, workers_for(threads, largest))
        with closing(making):  # whatever happens, no thread writes when the file is closed
            for made in making:
                if made is not None:
                    modules.append(made)
                    steps.step("fold", made.module)
        with inputs.watch.timed("write"):
            writer.finish()
    with inputs.watch.timed("check"):
        check_header(job.request.layout.open_file(path), file.specs)
    with inputs.watch.timed("hash"):
        workspace.complete(file.name, modules)


def _require_capture(request: ExportRequest, fidelity: FidelityReport) -> None:
    wanted, capture = request.require_capture, fidelity.total.capture
    if wanted is None or capture is None or capture >= wanted:
        return
    raise CaptureError(
        f"{request.out}: {request.format} keeps {capture:.4g} of the delta, {wanted:.4g} is "
        "required; nothing was written. nf4-embedded and lora keep all of it, fp32 nearly so"
    )
