"""What ``--json`` prints: one JSON object; docs/json.md says what its fields mean."""

from typing import Any

from exporter.export import ExportReport
from exporter.verification import VerifyReport
from tinylora import TinyLoRAError


def merge_fields(report: ExportReport) -> dict[str, Any]:
    """Of a finished export."""
    return {
        "ok": True,
        "out": str(report.out),
        "format": report.format,
        "bytes": report.fidelity.bytes,
        "delta": report.verdict,
        "resolved": None if report.resolved is None else str(report.resolved),
        "fidelity": report.fidelity.as_dict()["total"],
        "choice": None if report.choice is None else report.choice.sentence,
        "retention": None if report.retention is None else report.retention.as_dict(),
        "files": report.files,
        "seconds": dict(report.seconds),
        "warnings": list(report.warnings),
    }


def verify_fields(report: VerifyReport) -> dict[str, Any]:
    """Of a verification."""
    checks = [{"name": c.name, "ok": c.ok, "problems": list(c.problems)} for c in report.checks]
    return {
        "ok": report.ok,
        "directory": str(report.directory),
        "format": report.format,
        "checks": checks,
        "recorded": report.measured,
        "logits": None if report.logits is None else vars(report.logits),
        "retention": None if report.retention is None else report.retention.as_dict(),
        "warnings": list(report.warnings),
    }


def error_fields(error: TinyLoRAError) -> dict[str, Any]:
    """Of a command that failed."""
    return {"ok": False, "error": {"kind": type(error).__name__, "message": str(error)}}
