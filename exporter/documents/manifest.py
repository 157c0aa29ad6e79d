
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.fidelity import FidelityReport
from exporter.output.workspace import JOURNAL_FILE
from exporter.prepare import Prepared
from exporter.safetensors.header import TensorHeader
from exporter.safetensors.reader import file_sha256

MANIFEST_FORMAT = "tinylora-export/1"
SUMS_FILE = "SHA256SUMS"


def build_manifest(
    export: Prepared,
    fidelity: FidelityReport,
    headers: Sequence[TensorHeader],
    digests: Mapping[str, str],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The content of ``export_manifest.json``.

    It holds no time and no path, so that the same inputs and options give the same bytes.
    """
    plan, choice = export.plan, export.decision.choice
    tensors: dict[str, dict[str, list[Any]]] = {}
    for header in headers:
        tensors.setdefault(header.file, {})[header.name] = [header.dtype, list(header.shape)]
    return {
        "format": MANIFEST_FORMAT,
        **vars(export.provenance()),
        "lapack": sorted({m.spectrum.lapack for m in fidelity.modules if m.spectrum is not None}),
        "fidelity": fidelity.as_dict()["total"],
        "warnings": list(warnings),
        "choice": None if choice is None else choice.as_dict(),
        "targets": list(plan.targets),
        "kept_16bit": list(plan.kept),
        "files": dict(sorted(digests.items())),
        "tensors": tensors,
    }


def digest_files(directory: Path, known: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of every visible file below a directory, by relative name; some are known already."""
    names = [
        path.relative_to(directory).as_posix()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != JOURNAL_FILE
    ]
    return {name: known.get(name) or file_sha256(directory / name) for name in names}
