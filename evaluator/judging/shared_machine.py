"""Runs side by side, and again alone where the load of the machine may have decided."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_Outcome = TypeVar("_Outcome")


class SharedMachine:
    """A readers-writer lock: many hold it together, or one alone, who holds back newcomers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._waiting_alone = 0

    def run(
        self, attempt: Callable[[], _Outcome], doubtful: Callable[[_Outcome], bool]
    ) -> _Outcome:
        """Do something beside others, and where the outcome is doubtful once more, alone."""
        with self._held(alone=False):
            outcome = attempt()
        if doubtful(outcome):
            with self._held(alone=True):
                return attempt()
        return outcome

    @contextmanager
    def _held(self, *, alone: bool) -> Iterator[None]:
        with self._changed:
            self._waiting_alone += alone
            self._changed.wait_for(lambda: self._is_free(alone))
            self._waiting_alone -= alone
            self._running = -1 if alone else self._running + 1
        try:
            yield
        finally:
            with self._changed:
                self._running = 0 if alone else self._running - 1
                self._changed.notify_all()

    def _is_free(self, alone: bool) -> bool:
        if alone:
            return self._running == 0
        return self._running >= 0 and self._waiting_alone == 0
