"""Writes everything of an export that is not a weight file."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.architecture import Architecture
from exporter.checkpoint import INDEX_FILE, Checkpoint, TensorHeader
from exporter.config_files import (
    ADAPTER_CONFIG_FILE,
    CONFIG_FILE,
    adapter_config,
    carried_files,
    config_text,
    index_text,
)
from exporter.fidelity import FidelityReport
from exporter.formats import Format
from exporter.manifest import SUMS_FILE, Provenance, build_manifest, digest_files, sums_text
from exporter.model_card import model_card, read_license
from exporter.plan import ADAPTER_WEIGHTS, ExportPlan
from exporter.workspace import MANIFEST_FILE, Workspace

OWN_FILES = frozenset(
    {
        CONFIG_FILE,
        ADAPTER_CONFIG_FILE,
        INDEX_FILE,
        MANIFEST_FILE,
        SUMS_FILE,
        "README.md",
        "fidelity.json",
        "fidelity.csv",
    }
)


@dataclass(frozen=True)
class DocumentInputs:
    """What the documents of an export are made from; ``digests`` are those of the weight files."""

    layout: Format
    base: Checkpoint
    architecture: Architecture
    plan: ExportPlan
    provenance: Provenance
    fidelity: FidelityReport
    headers: Sequence[TensorHeader]
    digests: Mapping[str, str]
    warnings: Sequence[str]


def base_files(layout: Format, base: Path) -> Mapping[str, Path]:
    """Files of the base that the output carries along, by their name there."""
    return {} if layout.weights == "none" else carried_files(base, OWN_FILES)


def write_documents(inputs: DocumentInputs, workspace: Workspace) -> None:
    """Write configuration, carried files, measures, model card, manifest and digests.

    Raises:
        DiskFullError: There is no room.
    """
    for name, path in base_files(inputs.layout, inputs.base.path).items():
        workspace.copy(path, name)
    _write_configs(inputs, workspace)
    measures = inputs.fidelity.as_dict()
    workspace.write_text("fidelity.json", json.dumps(measures, indent=2, allow_nan=False) + "\n")
    workspace.write_text("fidelity.csv", _csv(measures["modules"]))
    license_ = read_license(inputs.base.path)
    card = model_card(inputs.layout, inputs.provenance, inputs.fidelity, license_, inputs.warnings)
    workspace.write_text("README.md", card)
    manifest = build_manifest(
        inputs.provenance,
        inputs.plan,
        fidelity=measures["total"],
        lapack=[module.spectrum.lapack for module in inputs.fidelity.modules],
        headers=inputs.headers,
        digests=digest_files(workspace.path, inputs.digests),
        warnings=inputs.warnings,
    )
    workspace.write_text(MANIFEST_FILE, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    workspace.write_text(SUMS_FILE, sums_text(digest_files(workspace.path, inputs.digests)))


def _write_configs(inputs: DocumentInputs, workspace: Workspace) -> None:
    layout, base = inputs.layout, inputs.base
    if layout.weights != "none":
        text = config_text(base, layout, inputs.plan.kept)
        source = base.path / CONFIG_FILE
        workspace.write_bytes(CONFIG_FILE, source.read_bytes() if text is None else text.encode())
        weights = [header for header in inputs.headers if header.file != ADAPTER_WEIGHTS]
        if len({header.file for header in weights}) > 1:
            workspace.write_text(INDEX_FILE, index_text(weights))
    if layout.adapter:
        artifact = inputs.provenance.artifact
        config = adapter_config(inputs.architecture, layout, artifact["rank"], artifact["model_id"])
        workspace.write_text(ADAPTER_CONFIG_FILE, json.dumps(config, indent=2) + "\n")


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    """One line a module; lists as space-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()}
        writer.writerow(flat)
    return text.getvalue()
