"""Tensors of a GPU that is not there: shapes, dtypes and devices, no values.

Under torch's FakeTensorMode every operation checks its arguments' devices, as a real one does, so a
tensor that was made on the CPU by mistake is found on a machine without a GPU. Where a program asks
for a value (``bool(x.all())``, ``x.item()``) it is given ``answer``; asked for the places where
something holds, it is given three or none.
"""

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.default_dtype import forget_tables

CUDA = torch.device("cuda")
_PLACES = 3


@cache
def _replace_the_driver() -> None:
    """Without a driver even indexing fails: it first asks which device is current."""
    if torch.cuda.is_available():
        return
    if torch.version.cuda:
        pytest.skip("a torch built for CUDA asks its driver, which is not there")
    root, source = Path(torch.__file__).parent, Path(__file__).with_suffix(".cpp")
    with TemporaryDirectory() as directory:
        library = Path(directory) / "guard.so"
        flags = ["-shared", "-fPIC", "-std=c++20", f"-I{root / 'include'}", f"-L{root / 'lib'}"]
        command = ["g++", *flags, str(source), "-o", str(library), "-lc10"]
        subprocess.run(command, check=True, capture_output=True)
        ctypes.CDLL(str(library))


class _Answering(FakeTensorMode):
    """Answers every question for a value."""

    def __init__(self, answer: Callable[[], bool]) -> None:
        super().__init__(allow_non_fake_inputs=True)  # real tensors of the CPU may come in
        self._answer = answer

    def may_turn_const(self, t: Tensor) -> bool:
        """No: a constant would be a real tensor, which cannot be moved to this GPU."""
        return False

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            number = 1.0 if dtype.is_floating_point else 1
            return self._answer() if dtype == torch.bool else number
        if func is torch.ops.aten.equal.default:
            return self._answer()
        if func is torch.ops.aten.nonzero.default:
            with self:
                places = (_PLACES * self._answer(), args[0].dim())
                return torch.empty(places, dtype=torch.int64, device=args[0].device)
        return super().dispatch(func, types, args, kwargs or {})


@cache
def _make_tables_of_bitsandbytes() -> None:
    """It keeps them too, and they must be real tensors."""
    for quant_type in ("nf4", "fp4"):
        weight = torch.linspace(-1, 1, 64 * 64).view(64, 64)
        packed, state = quantize_4bit(weight, quant_type=quant_type, compress_statistics=True)
        dequantize_4bit(packed, state)


@contextmanager
def fake_gpu(answer: bool | Random = True) -> Iterator[None]:
    """Run with a fake GPU.

    Args:
        answer: What every question for a truth is answered with, or a generator that tosses a coin
            for each, so that several runs take several ways; numbers are 1.
    """
    _replace_the_driver()
    _make_tables_of_bitsandbytes()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # modes hold in one thread, and modules are made in as many
    try:
        toss = (lambda: answer) if isinstance(answer, bool) else (lambda: answer.random() < 0.5)
        with _Answering(toss):
            yield
    finally:
        torch.set_num_threads(threads)
        forget_tables()  # those that were made meanwhile are no real tensors


def on_gpu(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of the fake GPU."""
    return torch.empty(shape, dtype=dtype, device=CUDA)
