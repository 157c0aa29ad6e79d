"""Fold TinyLoRA adapters into standalone checkpoints, and measure what is left of them."""

from exporter.errors import ExportError
from exporter.export import ExportReport, Progress, export
from exporter.fidelity import FidelityReport, ModuleFidelity
from exporter.request import ExportRequest

__all__ = [
    "ExportError",
    "ExportReport",
    "ExportRequest",
    "FidelityReport",
    "ModuleFidelity",
    "Progress",
    "export",
]
