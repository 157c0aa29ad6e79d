"""Reopens a written file and checks it against its plan."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.errors import WriterError
from exporter.safetensors.finite import all_finite
from exporter.safetensors.reader import TensorHeader, open_data_file
from exporter.safetensors.writer import TensorSpec
from tinylora.weights.quantized_weight import STATE_PREFIX

_ELEMENTS_AT_ONCE = 1 << 20


def check_header(path: Path, specs: Sequence[TensorSpec]) -> None:
    """Check keys, dtypes and shapes of a file that was just written, with a WriterError."""
    planned = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    if problems := _header_problems(open_data_file(path).headers, planned):
        raise WriterError(f"{path}: {problems[0]}; the disk or memory of this machine is at fault")


def file_problems(
    path: Path, planned: Mapping[str, tuple[str, tuple[int, ...] | None]]
) -> list[str]:
    """What is wrong with a file, in words; no shape is planned for states of any length."""
    file = open_data_file(path)
    problems = _header_problems(file.headers, planned)
    for name in sorted(planned.keys() & file.headers):
        is_float = file.headers[name].torch_dtype.is_floating_point
        if STATE_PREFIX in name:
            try:
                json.loads(bytes(file.read(name).tolist()))
            except ValueError:
                problems.append(f"tensor {name!r} holds no JSON")
        elif is_float and not all(map(all_finite, file.chunks(name, _ELEMENTS_AT_ONCE))):
            problems.append(f"tensor {name!r} has non-finite values")
    return problems


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
