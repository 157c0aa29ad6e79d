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
    """A JSON object from a file of at most so many bytes.

    Raises:
        OSError: It cannot be read.
        TinyLoRAError: What ``refuse`` makes of why it is too large, no JSON, or no object.
    """
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
