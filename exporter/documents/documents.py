"""Writes everything of an export that is not a weight file."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import INDEX_FILE, Checkpoint
from exporter.choose.choice import Choice
from exporter.compare.retention import Retention
from exporter.documents.config_files import (
    ADAPTER_CONFIG_FILE,
    CONFIG_FILE,
    adapter_config,
    carried_files,
    config_text,
    index_text,
    tinylora_config,
)
from exporter.documents.manifest import (
    SUMS_FILE,
    Provenance,
    build_manifest,
    digest_files,
    sums_text,
)
from exporter.documents.model_card import CARD_FILE, model_card, read_license, with_retention
from exporter.fidelity import FidelityReport
from exporter.formats.formats import Format
from exporter.io_errors import reading
from exporter.output.workspace import MANIFEST_FILE, Workspace
from exporter.plan.plan import ADAPTER_WEIGHTS, ExportPlan
from exporter.safetensors.header import TensorHeader
from tinylora import AdapterSizes

RETENTION_FILE = "retention.json"  # written by ``verify --prompts``
OWN_FILES = frozenset(
    {
        CONFIG_FILE,
        ADAPTER_CONFIG_FILE,
        INDEX_FILE,
        MANIFEST_FILE,
        SUMS_FILE,
        CARD_FILE,
        RETENTION_FILE,
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
    return {} if layout.weights == "none" else carried_files(base, OWN_FILES)


def write_model_files(inputs: DocumentInputs, workspace: Workspace) -> None:
    """Write what loading needs beside the weights: configuration and carried files.

    Raises:
        OutputWriteError: There is no room, or they cannot be written.
        CheckpointUnreadableError: A file of the base cannot be read.
    """
    with reading(inputs.base.path):
        carried = base_files(inputs.layout, inputs.base.path)
    for name, path in carried.items():
        workspace.copy(path, name)
    _write_configs(inputs, workspace)


def write_documents(
    inputs: DocumentInputs, workspace: Workspace, retention: Retention | None
) -> None:
    """Write measures, model card, manifest and digests.

    Args:
        inputs: What they are made from.
        workspace: Holds all other files of the export.
        retention: What was measured of the effect, if texts were given.

    Raises:
        OutputWriteError: There is no room, or they cannot be written.
        CheckpointUnreadableError: A file of the base cannot be read.
    """
    with reading(inputs.base.path):
        license_ = read_license(inputs.base.path)
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
    workspace.write_text(CARD_FILE, card if retention is None else with_retention(card, retention))
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
    if retention is not None:
        manifest["retention"] = retention.as_dict()
    workspace.write_text(MANIFEST_FILE, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    workspace.write_text(SUMS_FILE, sums_text(digest_files(workspace.path, inputs.digests)))


def _write_configs(inputs: DocumentInputs, workspace: Workspace) -> None:
    layout, base = inputs.layout, inputs.base
    if layout.weights != "none":
        text = config_text(base, layout, inputs.plan.kept)
        source = base.path / CONFIG_FILE
        if text is None:
            workspace.copy(source, CONFIG_FILE)
        else:
            workspace.write_text(CONFIG_FILE, text)
        weights = [header for header in inputs.headers if header.file != ADAPTER_WEIGHTS]
        if len({header.file for header in weights}) > 1:
            workspace.write_text(INDEX_FILE, index_text(weights))
    if layout.adapter:
        config = _adapter_config(inputs)
        workspace.write_text(ADAPTER_CONFIG_FILE, json.dumps(config, indent=2) + "\n")


def _adapter_config(inputs: DocumentInputs) -> dict[str, Any]:
    architecture, sizes = inputs.architecture, inputs.sizes
    model_id = inputs.provenance.artifact["model_id"]
    if inputs.layout.method == "TINYLORA":
        return tinylora_config(architecture, sizes, inputs.weight_tying, model_id)
    return adapter_config(architecture, inputs.layout, sizes.rank, model_id)


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    """One line a module; lists as space-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()}
        writer.writerow(flat)
    return text.getvalue()
