"""Means and deviations of parts that are added up. Shapes: C channels."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Figures(NamedTuple):
    """Of one channel."""

    mean: float
    deviation: float
    root_mean_square: float


@dataclass(frozen=True)
class Moments:
    """Number of values a channel, their means (C,) and their sums of squared deviations (C,).

    Added by the rule of Chan, Golub and LeVeque 1983: energies of -1e6 eV that differ by 1e-3 keep their deviation,
    which the difference of two sums of squares would not.
    """

    count: int
    means: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Moments":
        """values: (C, n), or (n,) for one channel; n at least 1."""
        values = np.atleast_2d(np.asarray(values, dtype=np.float64))
        means = values.mean(axis=1)
        return cls(values.shape[1], means, np.square(values - means[:, None]).sum(axis=1))

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        apart = other.means - self.means
        squares = self.squares + other.squares + np.square(apart) * (self.count * other.count / count)
        return Moments(count, self.means + apart * (other.count / count), squares)

    def pooled(self) -> "Moments":
        """All channels as one."""
        mean = self.means.mean(keepdims=True)
        squares = (self.squares + self.count * np.square(self.means - mean)).sum(keepdims=True)
        return Moments(self.count * len(self.means), mean, squares)

    @property
    def deviations(self) -> NDArray[np.float64]:
        """(C,) standard deviations of the population."""
        found: NDArray[np.float64] = np.sqrt(self.squares / self.count)
        return found

    @property
    def one(self) -> Figures:
        """The figures of the first channel."""
        mean, deviation = float(self.means[0]), float(self.deviations[0])
        return Figures(mean, deviation, math.hypot(mean, deviation))
