"""Fold adapters into standalone checkpoints, and measure what is left of them.

===============  ===============================================================================
folder           what it holds
===============  ===============================================================================
``base``         the base checkpoint: its files, its config.json, whether the two agree
``safetensors``  weight files, read and written a tensor at a time
``gguf``         the same for llama.cpp's files: what they say of a model, its tokenizer, tensors
``formats``      what an export format is, and each of them in a file of its own
``quantize``     4-bit codes for a weight that has a delta added to it
``plan``         which tensors go into which file, decided before any work is done
``choose``       what the user left open: the format of ``auto``, the modules of ``nf4-mixed``
``fold``         the tensors of each file, made and measured
``compare``      the restored model beside an export, token by token
``output``       the directory of an export: made aside, resumed, given its name when it is whole
``documents``    the files beside the weights: manifest, model card, warnings
===============  ===============================================================================

``export`` reads the inputs (``inputs``), decides and plans (``prepare``), folds into an output
directory, and writes documents. transformers takes seconds to import, so it is imported where it
is used.
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
