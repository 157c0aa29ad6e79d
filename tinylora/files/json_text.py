"""JSON of others, within bounds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinylora.errors import TinyLoRAError

MAX_BYTES = 1 << 28


def read_object(
    path: Path, refuse: Callable[[str], TinyLoRAError], most: int = MAX_BYTES
) -> dict[str, Any]:
    """A JSON object of at most so many bytes; else an OSError or what ``refuse`` makes."""
    size = path.stat().st_size
    if size > most:
        raise refuse(f"{path}: {size} bytes, expected at most {most}; is this another file?")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise refuse(f"{path}: cannot be read as JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise refuse(f"{path}: holds a {type(content).__name__}, expected an object")
    return content
