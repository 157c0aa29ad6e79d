import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from exporter.errors import WriterError
from exporter.safetensors.reader import DTYPE_NAMES
from exporter.safetensors.writer import (
    MAX_STATE_BYTES,
    PIECE_BYTES,
    FileForm,
    ShardWriter,
    TensorSpec,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int64, torch.bool)


def specs_of(tensors):
    return [TensorSpec(n, DTYPE_NAMES[t.dtype], tuple(t.shape)) for n, t in tensors.items()]


def write(path, tensors, specs=None):
    with ShardWriter(path, specs or specs_of(tensors)) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
        writer.finish()


tensor_lists = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda s: s != "__metadata__" and s.isprintable()),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)),
    min_size=1,
    max_size=8,
)


@given(tensor_lists)
def test_bytes_are_those_of_safetensors_own_writer(tmp_path_factory, described):
    tensors = {
        name: torch.randint(0, 2, shape).to(dtype) for name, (dtype, shape) in described.items()
    }
    path = tmp_path_factory.mktemp("w") / "a.safetensors"
    write(path, tensors)
    assert path.read_bytes() == save(tensors, metadata={"format": "pt"})
    assert path.stat().st_size <= FileForm({}).max_bytes(specs_of(tensors))


LONG = 2 * PIECE_BYTES + 37


@pytest.mark.parametrize("place", [0, PIECE_BYTES - 1, PIECE_BYTES, LONG - 1])
@pytest.mark.parametrize("is_state", [False, True])
def test_a_byte_that_the_file_does_not_keep_is_seen(tmp_path, monkeypatch, place, is_state):
    name, size = ("state", 100) if is_state else ("long", LONG)
    tensor = torch.randint(256, (size,), dtype=torch.uint8)
    specs = [TensorSpec(name, "U8", None if is_state else (size,))]
    honest = os.pwrite

    def forgetful(file, data, offset):
        written = honest(file, data, offset)
        if offset <= begin + place % size < offset + written:
            honest(file, bytes([int(tensor[place % size]) ^ 1]), begin + place % size)
        return written

    monkeypatch.setattr(os, "pwrite", forgetful)
    with ShardWriter(tmp_path / "f", specs) as writer:
        begin = writer._data_start
        with pytest.raises(WriterError, match=rf"f\.part: tensor '{name}' is not what was written"):
            writer.write(name, tensor)
            writer.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pieces_kept", [0, 1])
def test_a_file_cut_short_meanwhile_is_seen(tmp_path, monkeypatch, pieces_kept):
    honest = os.pread
    reads = iter(range(9))

    def short(file, size, offset):
        if next(reads) == pieces_kept:
            os.ftruncate(file, offset + 3)
        return honest(file, size, offset)

    monkeypatch.setattr(os, "pread", short)
    with (
        ShardWriter(tmp_path / "f", [TensorSpec("a", "U8", (2 * PIECE_BYTES,))]) as writer,
        pytest.raises(WriterError, match="is not what was written"),
    ):
        writer.write("a", torch.ones(2 * PIECE_BYTES, dtype=torch.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_is_refused(tmp_path, value, dtype):
    tensor = torch.ones(1000, dtype=dtype)
    tensor[-1] = value
    with pytest.raises(WriterError, match="'weight' has non-finite values"):
        write(tmp_path / "f", {"weight": tensor})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [1, 7, 180, MAX_STATE_BYTES])
def test_tensors_of_unknown_length_go_to_the_end(tmp_path, length):
    state = torch.arange(length).to(torch.uint8)
    tensors = {"s1": state, "w": torch.ones(3), "s2": state, "x": torch.ones(3).to(torch.uint8)}
    specs = [
        TensorSpec("s1", "U8", None),
        TensorSpec("w", "F32", (3,)),
        TensorSpec("s2", "U8", None),
        TensorSpec("x", "U8", (3,)),
    ]
    write(tmp_path / "f", tensors, specs)
    loaded = load_file(tmp_path / "f")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("b", torch.ones(2), "not planned"),
        ("a", torch.ones(3), "shape"),
        ("a", torch.ones(2).half(), "float16"),
    ],
)
def test_what_was_not_planned_is_refused(tmp_path, name, tensor, message):
    with (
        pytest.raises(WriterError, match=message),
        ShardWriter(tmp_path / "f", [TensorSpec("a", "F32", (2,))]) as writer,
    ):
        writer.write(name, tensor)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_repeated_tensor_is_refused(tmp_path):
    specs = [TensorSpec("a", "F32", (2,)), TensorSpec("b", "F32", (2,))]
    with pytest.raises(WriterError, match="'b'"), ShardWriter(tmp_path / "f", specs) as writer:
        writer.write("a", torch.ones(2))
        writer.finish()
    with pytest.raises(WriterError, match="twice"), ShardWriter(tmp_path / "f", specs) as writer:
        writer.write("a", torch.ones(2))
        writer.write("a", torch.ones(2))
    with pytest.raises(WriterError, match="twice"):
        ShardWriter(tmp_path / "f", [specs[0], specs[0]])
    assert list(tmp_path.iterdir()) == []
