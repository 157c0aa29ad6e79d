"""What is in an adapter, as an export would take it."""

from pathlib import Path

from exporter.plan.base_weights import trained_on
from tinylora import DeltaOptions, load_adapter
from tinylora.adapters import dialects
from tinylora.adapters.inspection import Inspection


def inspect_adapter(path: str | Path) -> Inspection:
    """Read an adapter of any dialect and remark on it; nothing in it is run.

    Raises:
        ArtifactError: It cannot be used.
    """
    adapter = load_adapter(path)
    return dialects.inspect_adapter(adapter, trained_on(adapter, DeltaOptions()))
