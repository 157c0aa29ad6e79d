"""Reopens a written file and checks it against its plan."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.errors import WriterError
from exporter.safetensors.finite import all_finite
from exporter.safetensors.header import TensorHeader, checked_data_file, read_headers
from exporter.safetensors.writer import TensorSpec
from tinylora.weights.quantized_weight import STATE_PREFIX

_ELEMENTS_AT_ONCE = 1 << 20


def check_header(path: Path, specs: Sequence[TensorSpec]) -> None:
    """Check keys, dtypes and shapes of a file that was just written, its values being known.

    Raises:
        WriterError: With the first thing that is wrong.
    """
    planned = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    if problems := _header_problems(_headers(path), planned):
        raise WriterError(f"{path}: {problems[0]}; the disk or memory of this machine is at fault")


def file_problems(
    path: Path, planned: Mapping[str, tuple[str, tuple[int, ...] | None]]
) -> list[str]:
    """What is wrong with a file of planned tensors (dtype, and shape where it is known), in words.

    Raises:
        CheckpointError: It cannot be read at all.
    """
    headers = _headers(path)
    known = [headers[name] for name in sorted(planned.keys() & headers)]
    return _header_problems(headers, planned) + _bad_values(path, known)


def _headers(path: Path) -> dict[str, TensorHeader]:
    return {header.name: header for header in read_headers(path)}


def _header_problems(
    headers: Mapping[str, TensorHeader], planned: Mapping[str, tuple[str, tuple[int, ...] | None]]
) -> list[str]:
    problems = [f"tensor {name!r} is missing" for name in planned.keys() - headers.keys()]
    problems += [f"tensor {name!r} was not planned" for name in headers.keys() - planned.keys()]
    for name in planned.keys() & headers.keys():
        dtype, shape = planned[name]
        header = headers[name]
        if header.dtype != dtype or (shape is not None and header.shape != tuple(shape)):
            found = f"{header.dtype} {list(header.shape)}"
            problems.append(f"tensor {name!r} is {found}, expected {dtype} {shape}")
    return sorted(problems)


def _bad_values(path: Path, headers: Sequence[TensorHeader]) -> list[str]:
    problems = []
    opened = checked_data_file(path)
    for header in headers:
        name, dtype = header.name, header.torch_dtype
        if STATE_PREFIX in name:
            problems += _bad_state(name, bytes(opened.read(name, dtype, header.shape).tolist()))
        elif dtype.is_floating_point and not all(
            all_finite(part) for part in opened.chunks(name, dtype, _ELEMENTS_AT_ONCE)
        ):
            problems.append(f"tensor {name!r} has non-finite values")
    return problems


def _bad_state(name: str, raw: bytes) -> list[str]:
    try:
        json.loads(raw)
    except ValueError:
        return [f"tensor {name!r} holds no JSON"]
    return []
