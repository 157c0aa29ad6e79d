"""Writes everything of an export that is not a weight file."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.base.carried_files import carried_files
from exporter.base.checkpoint import CONFIG_FILE, INDEX_FILE
from exporter.compare.retention import Retention
from exporter.documents.manifest import SUMS_FILE, build_manifest, digest_files
from exporter.documents.model_card import CARD_FILE, model_card, with_retention
from exporter.fidelity import FidelityReport
from exporter.formats.format import Format
from exporter.io_errors import reading
from exporter.output.workspace import MANIFEST_FILE, Workspace
from exporter.prepare import Prepared
from exporter.provenance import sums_text
from exporter.safetensors.header import TensorHeader, read_headers
from tinylora.adapters.peft_directory import CONFIG_FILE as ADAPTER_CONFIG_FILE
from tinylora.adapters.peft_directory import WEIGHTS_FILE as ADAPTER_WEIGHTS

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


def base_files(layout: Format, base: Path) -> Mapping[str, Path]:
    """Files of the base that the output carries along, by their name there."""
    return carried_files(base, OWN_FILES) if layout.standalone else {}


def write_model_files(export: Prepared, workspace: Workspace) -> list[TensorHeader]:
    """Write what loading needs beside the weights, and return the headers of all weight files.

    Raises:
        OutputWriteError: There is no room, or they cannot be written.
        CheckpointUnreadableError: A file of the base cannot be read.
    """
    base = export.inputs.base.path
    with reading(base):
        carried = base_files(export.request.layout, base)
    for name, path in carried.items():
        workspace.copy(path, name)
    headers = [h for f in export.plan.files for h in read_headers(workspace.path / f.name)]
    _write_configs(export, headers, workspace)
    return headers


def write_documents(
    export: Prepared,
    headers: Sequence[TensorHeader],
    fidelity: FidelityReport,
    digests: Mapping[str, str],
    warnings: Sequence[str],
    retention: Retention | None,
    workspace: Workspace,
) -> None:
    """Write measures, model card, manifest and digests; errors as above.

    Args:
        export: What was made.
        headers: Those of its weight files.
        fidelity: What was measured of it.
        digests: SHA-256 of its weight files.
        warnings: What the user is warned of.
        retention: What was measured of the effect, if texts were given.
        workspace: Holds all other files of the export.
    """
    measures = fidelity.as_dict()
    workspace.write_text("fidelity.json", json.dumps(measures, indent=2, allow_nan=False) + "\n")
    workspace.write_text("fidelity.csv", _csv(measures["modules"]))
    card = model_card(export, fidelity, warnings)
    workspace.write_text(CARD_FILE, card if retention is None else with_retention(card, retention))
    others = digest_files(workspace.path, digests)
    manifest = build_manifest(export, fidelity, headers, others, warnings)
    if retention is not None:
        manifest["retention"] = retention.as_dict()
    workspace.write_text(MANIFEST_FILE, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    workspace.write_text(SUMS_FILE, sums_text(digest_files(workspace.path, digests)))


def _write_configs(export: Prepared, headers: Sequence[TensorHeader], workspace: Workspace) -> None:
    inputs, layout, base = export.inputs, export.request.layout, export.inputs.base
    if layout.standalone:
        config = layout.config(base, export.plan.kept)
        if config == base.config:
            workspace.copy(base.path / CONFIG_FILE, CONFIG_FILE)
        else:
            text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
            workspace.write_text(CONFIG_FILE, text)
        weights = [header for header in headers if header.file != ADAPTER_WEIGHTS]
        if len({header.file for header in weights}) > 1:
            workspace.write_text(INDEX_FILE, index_text(weights))
    if layout.adapter is not None:
        adapter = layout.adapter.config(
            inputs.architecture,
            inputs.adapter.sizes,
            inputs.deltas.weight_tying,
            inputs.adapter.model_id,
        )
        workspace.write_text(ADAPTER_CONFIG_FILE, json.dumps(adapter, indent=2) + "\n")


def index_text(headers: Sequence[TensorHeader]) -> str:
    """``model.safetensors.index.json``; ``total_size`` is in bytes of tensor data."""
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
