import threading
import time

import pytest
import torch

from tinylora.workers import in_order, single_threaded


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
