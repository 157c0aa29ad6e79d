"""Writes everything of an export that is not a weight file."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.base.carried_files import side_files
from exporter.base.checkpoint import CONFIG_FILE, INDEX_FILE, read_json
from exporter.compare.retention import Retention
from exporter.documents.model_card import CARD_FILE, model_card
from exporter.errors import reading
from exporter.fidelity import FidelityReport
from exporter.formats.format import AdapterFormat, Format
from exporter.output.workspace import MANIFEST_FILE, Workspace
from exporter.prepare import Prepared
from exporter.provenance import sums_text
from exporter.safetensors.reader import TensorHeader
from tinylora.adapters.peft_directory import CONFIG_FILE as ADAPTER_CONFIG_FILE
from tinylora.adapters.peft_directory import WEIGHTS_FILE as ADAPTER_WEIGHTS

MANIFEST_FORMAT = "tinylora-export/1"
SUMS_FILE = "SHA256SUMS"
RETENTION_FILE = "retention.json"  # written by ``verify --prompts``
MEASURE_FILES = ("fidelity.json", "fidelity.csv")
_OWN_FILES = frozenset({CONFIG_FILE, ADAPTER_CONFIG_FILE, INDEX_FILE, MANIFEST_FILE, SUMS_FILE})
_OWN_FILES |= {CARD_FILE, RETENTION_FILE, *MEASURE_FILES}


def base_files(layout: Format, base: Path) -> Mapping[str, Path]:
    """Files of the base that the output carries along, by their name there."""
    with reading(base):
        return side_files(base, _OWN_FILES).carried if layout.for_transformers else {}


def write_model_files(
    export: Prepared, carried: Mapping[str, Path], workspace: Workspace
) -> list[TensorHeader]:
    """Write what loading needs beside the weights, and return the headers of all weight files."""
    for name, path in carried.items():
        workspace.copy(path, name)
    opened = export.request.layout.open_file
    files = [opened(workspace.path / file.name) for file in export.plan.files]
    headers = [header for file in files for header in file.headers.values()]
    _write_configs(export, headers, workspace)
    return headers


def write_documents(
    export: Prepared,
    carried: Iterable[str],
    headers: Sequence[TensorHeader],
    fidelity: FidelityReport,
    warnings: Sequence[str],
    retention: Retention | None,
    workspace: Workspace,
) -> None:
    """Write measures, model card, manifest and digests."""
    measures = fidelity.as_dict()
    texts = json.dumps(measures, indent=2, allow_nan=False) + "\n", _csv(measures["modules"])
    for name, text in zip(MEASURE_FILES, texts, strict=True):
        workspace.write_text(name, text)
    card = model_card(export, fidelity, warnings, carried, retention)
    workspace.write_text(CARD_FILE, card)
    manifest = _manifest(export, fidelity, headers, workspace.digests(), warnings)
    if retention is not None:
        manifest["retention"] = retention.as_dict()
    workspace.write_text(MANIFEST_FILE, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    workspace.write_text(SUMS_FILE, sums_text(workspace.digests()))


def _write_configs(export: Prepared, headers: Sequence[TensorHeader], workspace: Workspace) -> None:
    inputs, layout, base = export.inputs, export.request.layout, export.inputs.base
    if layout.for_transformers:
        config = layout.config(base, export.plan.kept)
        if config == read_json(base.path / CONFIG_FILE):
            workspace.copy(base.path / CONFIG_FILE, CONFIG_FILE)
        else:
            text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
            workspace.write_text(CONFIG_FILE, text)
        weights = [header for header in headers if header.file != ADAPTER_WEIGHTS]
        if len({header.file for header in weights}) > 1:
            workspace.write_text(INDEX_FILE, index_text(weights))
    if isinstance(layout, AdapterFormat):
        adapter = layout.adapter_config(
            inputs.architecture,
            inputs.adapter.sizes,
            inputs.deltas.weight_tying,
            inputs.adapter.model_id,
        )
        if adapter:
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


def _manifest(
    export: Prepared,
    fidelity: FidelityReport,
    headers: Sequence[TensorHeader],
    digests: Mapping[str, str],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The content of ``export_manifest.json``: no time and no path, for the same bytes again."""
    plan, choice = export.plan, export.choice
    tensors: dict[str, dict[str, list[Any]]] = {}
    for header in headers:
        tensors.setdefault(header.file, {})[header.name] = [header.dtype, list(header.shape)]
    return {
        "format": MANIFEST_FORMAT,
        **export.provenance,
        "lapack": sorted({m.spectrum.lapack for m in fidelity.modules if m.spectrum is not None}),
        "fidelity": fidelity.as_dict()["total"],
        "warnings": list(warnings),
        "choice": None if choice is None else choice.as_dict(),
        "targets": list(plan.targets),
        "kept_16bit": list(plan.kept),
        "files": dict(sorted(digests.items())),
        "tensors": tensors,
    }
