"""Reading and hashing files that may change meanwhile."""

import hashlib
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from exporter.errors import CheckpointUnreadableError
from exporter.safetensors import reader
from exporter.safetensors.reader import all_finite, open_data_file

LONG = 4096


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "one.safetensors"
    generator = torch.Generator().manual_seed(0)
    long = torch.randint(256, (LONG,), dtype=torch.uint8, generator=generator)
    save_file({"short": torch.arange(5, dtype=torch.uint8), "long": long}, path)
    return path


def test_digest_is_that_of_the_file_that_was_opened(path):
    file = open_data_file(path)
    assert file.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    os.utime(path, ns=(0, file.modified_ns + 1))
    with pytest.raises(CheckpointUnreadableError, match="written to"):
        file.sha256()
    with pytest.raises(CheckpointUnreadableError, match="written to"):
        file.read("short")


def test_a_file_cut_short_meanwhile_is_an_error(path):
    file = open_data_file(path)
    with path.open("r+b") as opened:
        opened.truncate(file.size - 6)
    for ask in (lambda: file.read("short"), file.sha256):
        with pytest.raises(CheckpointUnreadableError, match=r"one\.safetensors"):
            ask()


def test_pieces_are_those_of_the_file_and_a_change_between_them_is_an_error(path, monkeypatch):
    monkeypatch.setattr(reader, "_PIECE", 1000)
    file = open_data_file(path)
    whole = file.read("long")
    assert torch.equal(torch.cat(list(file.chunks("long"))), whole)
    pieces = file.chunks("long")
    next(pieces)
    os.utime(path, ns=(0, file.modified_ns + 1))
    with pytest.raises(CheckpointUnreadableError, match="written to"):
        next(pieces)


@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    bad=st.sampled_from([float("nan"), float("inf"), -float("inf")]),
    size=st.sampled_from([1, 5, 1 << 18, (1 << 18) + 1, 600_000]),
    share=st.floats(0, 1, exclude_max=True),
)
def test_one_bad_number_is_found_wherever_it_is(dtype, bad, size, share):
    tensor = torch.linspace(-3, 3, size).to(dtype)
    assert all_finite(tensor)
    tensor[int(share * size)] = bad
    assert not all_finite(tensor)
