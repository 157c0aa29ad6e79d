"""Writes everything of an export that is not a weight file."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import CONFIG_FILE, INDEX_FILE, Checkpoint
from exporter.choose.trials import Choice
from exporter.documents.carried_files import carried_files
from exporter.documents.manifest import (
    SUMS_FILE,
    Provenance,
    build_manifest,
    digest_files,
    sums_text,
)
from exporter.documents.model_card import CARD_FILE, model_card, read_license
from exporter.fidelity import FidelityReport
from exporter.formats.format import Format
from exporter.io_errors import reading
from exporter.output.workspace import MANIFEST_FILE, Workspace
from exporter.plan.plan import ExportPlan
from exporter.safetensors.header import TensorHeader
from tinylora import AdapterSizes
from tinylora.adapters.peft_directory import CONFIG_FILE as ADAPTER_CONFIG_FILE
from tinylora.adapters.peft_directory import WEIGHTS_FILE as ADAPTER_WEIGHTS

OWN_FILES = frozenset(
    {
        CONFIG_FILE,
        ADAPTER_CONFIG_FILE,
        INDEX_FILE,
        MANIFEST_FILE,
        SUMS_FILE,
        CARD_FILE,
        "fidelity.json",
        "fidelity.csv",
    }
)


@dataclass(frozen=True)
class DocumentInputs:
    """What the documents of an export are made from.

    ``sizes`` and ``weight_tying`` are the adapter's, ``digests`` those of the weight files.
    """

    layout: Format
    base: Checkpoint
    architecture: Architecture
    plan: ExportPlan
    provenance: Provenance
    sizes: AdapterSizes
    weight_tying: float
    fidelity: FidelityReport
    headers: Sequence[TensorHeader]
    digests: Mapping[str, str]
    warnings: Sequence[str]
    choice: Choice | None


def base_files(layout: Format, base: Path) -> Mapping[str, Path]:
    """Files of the base that the output carries along, by their name there."""
    return carried_files(base, OWN_FILES) if layout.standalone else {}


def write_documents(inputs: DocumentInputs, workspace: Workspace) -> None:
    """Write configuration, carried files, measures, model card, manifest and digests.

    Raises:
        OutputWriteError: There is no room, or they cannot be written.
        CheckpointUnreadableError: A file of the base cannot be read.
    """
    with reading(inputs.base.path):
        carried = base_files(inputs.layout, inputs.base.path)
        license_ = read_license(inputs.base.path)
    for name, path in carried.items():
        workspace.copy(path, name)
    _write_configs(inputs, workspace)
    measures = inputs.fidelity.as_dict()
    workspace.write_text("fidelity.json", json.dumps(measures, indent=2, allow_nan=False) + "\n")
    workspace.write_text("fidelity.csv", _csv(measures["modules"]))
    choice = inputs.choice
    card = model_card(
        inputs.layout,
        inputs.provenance,
        inputs.fidelity,
        license_,
        inputs.warnings,
        None if choice is None else choice.sentence,
    )
    workspace.write_text(CARD_FILE, card)
    manifest = build_manifest(
        inputs.provenance,
        inputs.plan,
        fidelity=measures["total"],
        lapack=[m.spectrum.lapack for m in inputs.fidelity.modules if m.spectrum is not None],
        headers=inputs.headers,
        digests=digest_files(workspace.path, inputs.digests),
        warnings=inputs.warnings,
        choice=None if choice is None else choice.as_dict(),
    )
    workspace.write_text(MANIFEST_FILE, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    workspace.write_text(SUMS_FILE, sums_text(digest_files(workspace.path, inputs.digests)))


def _write_configs(inputs: DocumentInputs, workspace: Workspace) -> None:
    layout, base = inputs.layout, inputs.base
    if layout.standalone:
        config = layout.config(base, inputs.plan.kept)
        if config == base.config:
            workspace.copy(base.path / CONFIG_FILE, CONFIG_FILE)
        else:
            text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
            workspace.write_text(CONFIG_FILE, text)
        weights = [header for header in inputs.headers if header.file != ADAPTER_WEIGHTS]
        if len({header.file for header in weights}) > 1:
            workspace.write_text(INDEX_FILE, index_text(weights))
    if layout.adapter is not None:
        model_id = inputs.provenance.artifact["model_id"]
        adapter = layout.adapter.config(
            inputs.architecture, inputs.sizes, inputs.weight_tying, model_id
        )
        workspace.write_text(ADAPTER_CONFIG_FILE, json.dumps(adapter, indent=2) + "\n")


def index_text(headers: Sequence[TensorHeader]) -> str:
    """``model.safetensors.index.json``; ``total_size`` is in bytes of tensor data.

    Args:
        headers: Every tensor of the written shards.
    """
    index = {
        "metadata": {"total_size": sum(header.nbytes for header in headers)},
        "weight_map": dict(sorted((header.name, header.file) for header in headers)),
    }
    return json.dumps(index, indent=2, ensure_ascii=False) + "\n"


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    """One line a module; lists as space-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()}
        writer.writerow(flat)
    return text.getvalue()
