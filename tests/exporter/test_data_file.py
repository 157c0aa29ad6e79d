"""Comparing and hashing files whose tensors lie in different places."""

import hashlib
import os
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from exporter.checkpoint import checked_data_file
from exporter.data_file import PIECE_BYTES, Scratch
from exporter.errors import CheckpointUnreadableError

LONG = 2 * PIECE_BYTES + 37


@pytest.fixture
def two_files(tmp_path):
    """The same tensors, in another order and at other offsets."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "long": torch.randint(256, (LONG,), dtype=torch.uint8, generator=generator),
        "short": torch.arange(5, dtype=torch.uint8),
        "none": torch.empty(0, dtype=torch.uint8),
    }
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    save_file(tensors, one)
    save_file({"a": torch.ones(3), **tensors}, other)
    return one, other


def change_byte(path, name, place):
    """Flip one byte of a tensor's data in a file."""
    begin = checked_data_file(path).places[name][0]
    with path.open("r+b") as file:
        file.seek(begin + place)
        byte = file.read(1)[0]
        file.seek(begin + place)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("name", ["long", "short", "none"])
def test_equal_bytes_at_other_places(two_files, name):
    one, other = map(checked_data_file, two_files)
    assert one.holds_same(name, other) and other.holds_same(name, one)


@pytest.mark.parametrize("place", [0, PIECE_BYTES - 1, PIECE_BYTES, LONG - 1])
def test_one_other_byte_anywhere(two_files, place):
    change_byte(two_files[1], "long", place)
    one, other = map(checked_data_file, two_files)
    assert not one.holds_same("long", other)
    assert one.holds_same("short", other)


def test_another_length_is_not_the_same(two_files, tmp_path):
    save_file({"short": torch.arange(6, dtype=torch.uint8)}, tmp_path / "c.safetensors")
    one, other = checked_data_file(two_files[0]), checked_data_file(tmp_path / "c.safetensors")
    assert not one.holds_same("short", other) and not other.holds_same("short", one)


def test_digest_is_that_of_the_file_that_was_opened(two_files):
    path = two_files[0]
    file = checked_data_file(path)
    assert file.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    change_byte(path, "short", 0)
    os.utime(path, ns=(0, file.modified_ns + 1))
    with pytest.raises(CheckpointUnreadableError, match="written to"):
        file.sha256()
    with pytest.raises(CheckpointUnreadableError, match="written to"):
        file.holds_same("short", checked_data_file(two_files[1]))


def test_a_file_cut_short_meanwhile_is_an_error(two_files):
    one, other = map(checked_data_file, two_files)
    with two_files[1].open("r+b") as file:
        file.truncate(other.size - 8)
    for ask in (lambda: one.holds_same("long", other), lambda: other.holds_same("long", one)):
        with pytest.raises(CheckpointUnreadableError, match=r"other\.safetensors"):
            ask()


def test_scratch_is_used_again_by_its_own_thread_alone():
    scratch, others = Scratch(), []
    mine = scratch.room(100)
    thread = threading.Thread(target=lambda: others.append(scratch.room(100)))
    thread.start()
    thread.join()
    assert np.shares_memory(mine, scratch.room(60)) and not np.shares_memory(mine, others[0])
    assert scratch.room(60).size == 60 and scratch.room(1000).size == 1000


def test_a_tensor_has_its_own_memory_unless_it_is_given_some(two_files):
    file = checked_data_file(two_files[0])
    size, scratch = (LONG,), Scratch()
    kept, again = (file.read("long", torch.uint8, size) for _ in "ab")
    shared = file.read("long", torch.uint8, size, scratch)
    assert kept.data_ptr() != again.data_ptr() and torch.equal(kept, shared)
    short = file.read("short", torch.uint8, (5,), scratch)
    assert short.data_ptr() == shared.data_ptr() and short.tolist() == [0, 1, 2, 3, 4]
