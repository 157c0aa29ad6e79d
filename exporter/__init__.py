"""Fold TinyLoRA adapters into standalone checkpoints, and measure what is left of them.

The flow, one file a step::

    request ─┐
    base ────┼─ inputs ─ prepare (choose, plan) ─ fold (formats: encode, measure) ─┐
    adapter ─┘                                                                      │
                     output directory ─ documents (manifest, card) ─ fidelity ──────┘

transformers takes seconds to import and most exports do without it, so it is imported where it is
used.
"""

from exporter.errors import ExportError
from exporter.export import ExportReport, export
from exporter.fidelity import ErrorSums, FidelityReport, ModuleFidelity
from exporter.inspection import (
    ArtifactInspection,
    PeftInspection,
    inspect_adapter,
    inspect_artifact,
)
from exporter.progress import Progress
from exporter.request import ExportRequest
from exporter.verification import VerifyReport, verify

__all__ = [
    "ArtifactInspection",
    "ErrorSums",
    "ExportError",
    "ExportReport",
    "ExportRequest",
    "FidelityReport",
    "ModuleFidelity",
    "PeftInspection",
    "Progress",
    "VerifyReport",
    "export",
    "inspect_adapter",
    "inspect_artifact",
    "verify",
]
