"""Everything before the first byte is written: inputs are read, choices made, the plan built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from exporter.choose.decide import Moments, decide
from exporter.choose.trials import Choice
from exporter.compare.prompts import PromptSet, read_prompts
from exporter.inputs import Inputs, read_inputs
from exporter.plan.plan import ExportPlan
from exporter.progress import Progress, Steps
from exporter.provenance import collect_provenance
from exporter.request import ExportRequest
from tinylora.workers import single_threaded


@dataclass(frozen=True, eq=False)
class Prepared:
    """An export in which nothing is left open."""

    inputs: Inputs
    plan: ExportPlan
    choice: Choice | None
    moments: Moments | None
    check_prompts: PromptSet | None

    @property
    def request(self) -> ExportRequest:
        """What was asked for, every ``auto`` decided."""
        return self.inputs.request

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """What decides the output's bytes; waits for the digests of the base."""
        return collect_provenance(self.inputs)


def prepare(
    request: ExportRequest, scratch: Path, progress: Callable[[Progress], None]
) -> Prepared:
    """Read all inputs, decide what is open and build the plan; no output is written."""
    inputs = read_inputs(request, scratch)
    # used late; what is wrong with them is said first
    prompts, check_prompts = (
        None if texts is None else read_prompts(texts, inputs.base.path)
        for texts in (request.prompts, request.check_prompts)
    )
    steps = Steps(progress, 2 * len(inputs.architecture.targets))
    with single_threaded() as threads:
        request, choice, moments = decide(inputs, prompts, scratch, threads, steps.step)
    inputs = replace(inputs, request=request)
    return Prepared(inputs, inputs.plan(request.layout), choice, moments, check_prompts)
