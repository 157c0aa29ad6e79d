"""Where training had the modules of a model that was split over devices.

Each device has a random stream of its own, so P of a module depends on the device that held it. A
placement has the form of accelerate's and transformers' ``device_map`` (``model.hf_device_map``):
a module's name, or a prefix of it up to a dot, to a device (``0``, ``"cuda:0"`` or ``"cpu"``);
``""`` stands for all that is left.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylora.adapters.options import Placement
from tinylora.errors import ProjectionError

_MAX_CHARACTERS = 1 << 20


def read_placement(text: str) -> dict[str, str]:
    """A placement from a JSON object, or from the path of a file with one, else ProjectionError."""
    source = "placement" if text.lstrip().startswith("{") else text
    if source == text:
        try:
            with Path(source).open(encoding="utf-8") as file:
                text = file.read(_MAX_CHARACTERS)
        except (OSError, ValueError) as error:
            raise ProjectionError(
                f"{source}: cannot be read as a placement ({error}); give a JSON file, or JSON "
                'such as {"": 0}'
            ) from error
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise ProjectionError(f"{source}: is no JSON ({error})") from error
    return checked_placement(found, source)


def checked_placement(found: Any, source: str = "placement") -> dict[str, str]:
    """A placement whose devices are spelled ``cpu`` or ``cuda:N``; else a ProjectionError."""
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ProjectionError(
            f"{source}: expected a map from module prefixes to devices, as model.hf_device_map "
            f"is, found {type(found).__name__}"
        )
    if not found:
        raise ProjectionError(f"{source}: is empty; leave it out if one device held the model")
    return {name: _device(name, device, source) for name, device in found.items()}


def _device(name: str, device: object, source: str) -> str:
    spelled = "cuda:0" if device == "cuda" else device
    if isinstance(device, int) and not isinstance(device, bool):
        spelled = f"cuda:{device}"
    if isinstance(spelled, str) and re.fullmatch(r"cpu|cuda:\d{1,3}", spelled):
        return spelled
    raise ProjectionError(
        f"{source}: {name!r} lies on {device!r:.100}; expected a GPU's number, cuda:N or cpu, "
        "whose random streams are known"
    )


def modules_by_device(names: Sequence[str], placement: Placement) -> dict[str, list[int]]:
    """Positions of the modules that each device holds; a ProjectionError if one has none."""
    devices = checked_placement(placement)
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(_device_of(name, devices), []).append(index)
    return groups


def _device_of(name: str, placement: Mapping[str, str]) -> str:
    """Device of a module: the entry with the longest matching prefix."""
    prefix = name
    while prefix not in placement:
        if not prefix:
            raise ProjectionError(
                f"placement names no device for module {name!r}; it has {sorted(placement)[:20]}. "
                'Give the training\'s device map, or "" for the rest'
            )
        prefix = prefix.rpartition(".")[0]
    return placement[prefix]
