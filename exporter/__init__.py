"""Fold adapters into standalone checkpoints, and measure what is left of them.

===============  ===============================================================================
folder           what it holds
===============  ===============================================================================
``base``         the base checkpoint: its files, its config.json, whether the two agree
``safetensors``  weight files, read and written a tensor at a time
``gguf``         the same for llama.cpp's files: what they say of a model, its tokenizer, tensors
``formats``      what an export format is, and the formats, those of a kind in one file
``quantize``     4-bit codes for a weight that has a delta added to it
``plan``         which tensors go into which file, decided before any work is done
``choose``       what the user left open: the format of ``auto``, the modules of ``nf4-mixed``
``fold``         the tensors of each file, made and measured
``compare``      the restored model beside an export, token by token
``output``       the directory of an export: made aside, resumed, given its name when it is whole
``documents``    the files beside the weights: manifest, model card, warnings
===============  ===============================================================================

``export`` reads the inputs (``inputs``), decides and plans (``prepare``), folds into an output
directory, and writes documents (``make_export``). What is public is imported when it is asked for,
and transformers where it is used: torch and transformers take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from exporter.errors import ExportError

if TYPE_CHECKING:
    from exporter.fidelity import ErrorSums, FidelityReport, ModuleFidelity
    from exporter.inspection import inspect_adapter
    from exporter.make_export import ExportReport, export
    from exporter.progress import Progress
    from exporter.request import ExportRequest
    from exporter.splitting import split
    from exporter.verification import VerifyReport, verify

__all__ = [
    "ErrorSums",
    "ExportError",
    "ExportReport",
    "ExportRequest",
    "FidelityReport",
    "ModuleFidelity",
    "Progress",
    "VerifyReport",
    "export",
    "inspect_adapter",
    "split",
    "verify",
]

_HOMES = {
    "fidelity": ("ErrorSums", "FidelityReport", "ModuleFidelity"),
    "inspection": ("inspect_adapter",),
    "make_export": ("ExportReport", "export"),
    "progress": ("Progress",),
    "request": ("ExportRequest",),
    "splitting": ("split",),
    "verification": ("VerifyReport", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # else every misspelt name would pass the type check

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'exporter' has no attribute {name!r}")
        return getattr(import_module(f"exporter.{_HOME_OF[name]}"), name)
