"""How far an export is, and where its time went."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Literal

Stage = Literal["hash", "read", "factors", "fold", "write", "check"]


@dataclass(frozen=True)
class Progress:
    """A module is done in a stage: ``factors`` and ``effect`` of a choice, or ``fold``."""

    stage: str
    done: int
    total: int
    module: str


class Steps:
    """Counts finished steps for a progress callback."""

    def __init__(self, callback: Callable[[Progress], None], total: int) -> None:
        self._callback, self._total, self._done = callback, total, 0

    def step(self, stage: str, module: str) -> None:
        """One more is done."""
        self._done += 1
        self._callback(Progress(stage, self._done, self._total, module))


class Stopwatch:
    """Adds up the seconds that threads spend in each stage; several may be in one at a time."""

    def __init__(self) -> None:
        self._lock, self._seconds = Lock(), dict[Stage, float]()

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Time what is done in here."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self._seconds[stage] = self._seconds.get(stage, 0.0) + spent

    @property
    def seconds(self) -> Mapping[Stage, float]:
        """What was spent so far, in the order in which stages first ended."""
        with self._lock:
            return dict(self._seconds)
