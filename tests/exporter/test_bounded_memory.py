"""What keeps memory bounded changes no bit: pieces of rows and of files, workers."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exporter.safetensors.reader import all_finite
from tinylora import LowRankDelta
from tinylora.workers import in_order, single_threaded


@pytest.mark.parametrize("shape", [(11008, 2048), (130, 70000), (3, 5)])
@pytest.mark.parametrize("rounding", [None, torch.bfloat16])
def test_pieces_are_the_dense_delta_bit_for_bit(shape, rounding):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, 2, generator=generator) * 1e-3 for side in shape)
    delta = LowRankDelta(left, right.T.contiguous(), rounding)
    dense, covered = delta.dense(), 0
    for rows, piece in delta.pieces():
        assert rows.start == covered
        assert torch.equal(piece, dense[rows])
        assert piece.numel() <= max(2 << 18, 128 * shape[1])
        covered = rows.stop
    assert covered == shape[0]


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


def test_closing_waits_for_what_is_in_work():
    begun, done = [], []

    def work(i):
        begun.append(i)
        time.sleep(0.05)
        done.append(i)

    results = in_order(work, range(100), 2)
    next(results)
    results.close()
    assert sorted(begun) == sorted(done) and len(done) < 50


def test_an_error_in_a_worker_ends_the_others():
    done = []

    def work(i):
        if i == 3:
            raise ValueError("broken")
        time.sleep(0.002)
        done.append(i)
        return i

    with pytest.raises(ValueError, match="broken"):
        list(in_order(work, range(1000), 2))
    assert len(done) < 200  # those begun while a thousand were handed out
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def test_two_that_want_one_thread_take_turns():
    """Whichever ended first would give the other more threads, in torch or in its BLAS."""
    before, inside, found = torch.get_num_threads(), threading.Event(), []

    def work():
        with single_threaded() as threads:
            inside.set()
            found.append((threads, torch.get_num_threads()))

    torch.set_num_threads(2)
    try:
        other = threading.Thread(target=work)
        with single_threaded() as threads, single_threaded() as nested:
            other.start()
            assert threads == nested == 2
            assert not inside.wait(0.2)
        other.join()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found == [(2, 1)]
