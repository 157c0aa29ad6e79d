"""Families: problems that are variants of one another count as one independent unit.

The variants of a template are passed or failed together more often than strangers are. Counted as
independent problems they make every interval too narrow. So the unit is the family, as the problem
is for its samples; a problem of no family is a family of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluator.statistics.score_interval import Floats


@dataclass(frozen=True, eq=False)
class Families:
    """The families of m problems, u in all; ``number``, int [m], has that of each, 0 … u − 1."""

    number: npt.NDArray[np.int64]

    @classmethod
    def named(cls, names: Sequence[str | None]) -> "Families":
        """Group problems by the name of their family; those without one stand alone."""
        keys = [("", str(k)) if name is None else ("family", name) for k, name in enumerate(names)]
        order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return cls(np.array([order[key] for key in keys], dtype=np.int64))

    @classmethod
    def alone(cls, problems: int) -> "Families":
        """Each problem a family of its own."""
        return cls(np.arange(problems))

    @property
    def sizes(self) -> Floats:
        """Problems of each family, float64 [u]."""
        return np.bincount(self.number).astype(np.float64)

    @property
    def effective(self) -> int:
        """How many families of equal size would show as much: m² / Σ size² (Kish 1965).

        For equal families it is their number. Where a few are much larger than the rest, little is
        known of those few, and the number of families would promise too much.
        """
        sizes = self.sizes
        return int(sizes.sum() ** 2 / (sizes**2).sum() + 1e-9)

    def means(self, values: Floats) -> Floats:
        """Mean of each family, float64 [u], of values float64 [m], one a problem."""
        return np.bincount(self.number, weights=values) / self.sizes

    def sums(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Sum of each family, int64 [u], of values int64 [m]."""
        return np.rint(np.bincount(self.number, weights=values)).astype(np.int64)
