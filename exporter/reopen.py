"""Reopens a written file and checks it against its plan."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safetensors import safe_open

from exporter.checkpoint import TensorHeader, read_headers
from exporter.errors import WriterError
from exporter.finite import all_finite
from exporter.shard_writer import TensorSpec

_BYTES_AT_ONCE = 1 << 26


def check_file(path: Path, specs: Sequence[TensorSpec]) -> None:
    """Check keys, dtypes, shapes and finiteness of a file.

    Raises:
        WriterError: With the first thing that is wrong.
    """
    planned = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    if problems := file_problems(path, planned):
        raise WriterError(f"{path}: {problems[0]}; the disk or memory of this machine is at fault")


def file_problems(
    path: Path, planned: Mapping[str, tuple[str, tuple[int, ...] | None]]
) -> list[str]:
    """What is wrong with a file, in words.

    Args:
        path: A safetensors file.
        planned: Tensor name -> safetensors dtype and shape, None for a quant_state of any length.

    Raises:
        CheckpointError: It cannot be read at all.
    """
    headers = {header.name: header for header in read_headers(path)}
    problems = [f"tensor {name!r} is missing" for name in planned.keys() - headers.keys()]
    problems += [f"tensor {name!r} was not planned" for name in headers.keys() - planned.keys()]
    for name in planned.keys() & headers.keys():
        dtype, shape = planned[name]
        header = headers[name]
        if header.dtype != dtype or (shape is not None and header.shape != tuple(shape)):
            found = f"{header.dtype} {list(header.shape)}"
            problems.append(f"tensor {name!r} is {found}, expected {dtype} {shape}")
    return sorted(problems) + _bad_values(
        path, [headers[n] for n in sorted(planned.keys() & headers.keys())]
    )


def _bad_values(path: Path, headers: Sequence[TensorHeader]) -> list[str]:
    problems = []
    for names in _batches(headers):
        # a new memory map each time: one map would keep all pages of the file in memory
        with safe_open(path, framework="pt", device="cpu") as opened:
            for name in names:
                tensor = opened.get_tensor(name)
                if ".quant_state.bitsandbytes__" in name:
                    problems += _bad_state(name, bytes(tensor.tolist()))
                elif not all_finite(tensor):
                    problems.append(f"tensor {name!r} has non-finite values")
    return problems


def _batches(headers: Sequence[TensorHeader]) -> Iterator[list[str]]:
    batch, size = [], 0
    for header in headers:
        batch.append(header.name)
        size += header.nbytes
        if size >= _BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    yield batch


def _bad_state(name: str, raw: bytes) -> list[str]:
    try:
        json.loads(raw)
    except ValueError:
        return [f"tensor {name!r} holds no JSON"]
    return []
