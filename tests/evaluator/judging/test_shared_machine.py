"""Runs side by side, and alone."""

import threading
import time

from evaluator.judging.shared_machine import SharedMachine


def never(outcome):
    return False


def test_second_try_runs_alone_and_before_newcomers():
    machine, log, beside, doubted = SharedMachine(), [], threading.Event(), threading.Event()

    def in_thread(attempt, doubtful=never):
        thread = threading.Thread(target=machine.run, args=(attempt, doubtful))
        thread.start()
        return thread

    def try_twice():
        log.append("try")
        return len(log)

    threads = [in_thread(beside.wait)]
    threads.append(in_thread(try_twice, lambda outcome: doubted.set() or outcome == 1))
    doubted.wait()
    time.sleep(0.05)
    threads.append(in_thread(lambda: log.append("late")))
    time.sleep(0.05)
    assert log == ["try"]
    beside.set()
    for thread in threads:
        thread.join()
    assert log == ["try", "try", "late"]
