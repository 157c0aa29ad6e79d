"""Looks at a run while it grows: what each may conclude so that all together err in 5 %.

With the share t of all information at a look, Z √t is a Brownian motion W(t). A null is rejected
at the first look with W(t) ≥ C, where P(max W(t_k) ≥ C) = α: the first looks need overwhelming
evidence, the last hardly more than a single one would (O'Brien and Fleming, Biometrics 35, 1979).
The probability is integrated look by look (Armitage, McPherson and Rowe, JRSS A 132, 1969).

So a p-value p at t becomes P(max W(t_k) ≥ Φ⁻¹(1 − p) √t): it is valid wherever among the planned
looks the run stops, and for whatever reason.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from evaluator.statistics.score_interval import Floats

_NODES = 600  # of the quadrature, over as many standard deviations as paths are followed for
_REACH = 9.0
_quadrature = cache(np.polynomial.legendre.leggauss)  # whose points cost more to find than to use
_SMALLEST_STEP = 2e-3  # of a look's information: nearer looks are as one, to 0.003 of probability
_HIGHEST = 40.0  # a boundary that no path reaches
_LEAST_P = float(np.nextafter(0, 1))  # what p-values of 0 may have been before rounding


@dataclass(frozen=True)
class Look:
    """One of the planned looks at a run, by its ``number`` from 1; by default the only one.

    ``times`` are the shares of all information at each look, growing to 1.
    """

    times: tuple[float, ...] = (1.0,)
    number: int = 1

    @classmethod
    def of_equal(cls, looks: int, number: int) -> "Look":
        """A look at a run that grows by equal steps."""
        return cls(tuple((k + 1) / looks for k in range(looks)), number)

    @property
    def time(self) -> float:
        """Share of all information."""
        return self.times[self.number - 1]

    def over_all(self, p: float) -> float:
        """A one-sided p-value of this look, as one that is valid over all of them.

        >>> Look().over_all(0.03), round(Look.of_equal(4, 2).over_all(0.005), 4)
        (0.03, 0.0408)
        """
        if len(self.times) == 1:
            return p
        return _chance_of_reaching(float(norm.isf(max(p, _LEAST_P))) * self.time**0.5, self.times)

    def level(self, alpha: float) -> float:
        """The p-value at this look that is ``alpha`` over all of them, one-sided.

        >>> [round(Look.of_equal(4, k).level(0.05), 4) for k in (1, 2, 3, 4)]
        [0.0003, 0.0071, 0.0227, 0.0415]
        """
        if len(self.times) == 1:
            return alpha
        return float(norm.sf(_boundary(self.times, alpha) / self.time**0.5))


ONLY_LOOK = Look()


@cache
def _boundary(times: tuple[float, ...], alpha: float) -> float:
    """The C of the module's docstring; at least that of one look, at most Bonferroni's."""
    low, high = (float(norm.isf(alpha / count)) for count in (1, len(times)))
    room = 0.01  # for looks that are nearly one, where rounding decides
    return float(brentq(lambda c: _chance_of_reaching(c, times) - alpha, low - room, high + room))


def _chance_of_reaching(boundary: float, times: tuple[float, ...]) -> float:
    """P(max W(t) ≥ boundary) over the times of a Brownian motion W from 0."""
    if boundary >= _HIGHEST or boundary <= -_HIGHEST:
        return 0.0 if boundary > 0 else 1.0
    nodes, weights = _quadrature(_NODES)
    at, mass = np.zeros(1), np.ones(1)  # where paths are, and with what probability
    reached, before = 0.0, 0.0
    for time, after in zip(times, (*times[1:], np.inf), strict=True):
        if after - time < _SMALLEST_STEP * after:
            continue
        step, low = (time - before) ** 0.5, min(boundary, 0.0) - _REACH * time**0.5
        width = min(boundary, _REACH * time**0.5) - low
        below: Floats = low + (nodes + 1) / 2 * width  # where they go on
        reached += float(mass @ ndtr((at - boundary) / step))
        mass = weights * width / 2 * (mass @ _normal_density((below - at[:, None]) / step) / step)
        at, before = below, time
    return min(reached, 1.0)


def _normal_density(x: Floats) -> Floats:
    return np.asarray(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))
