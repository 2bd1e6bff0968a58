"""Post-hoc EMA: the width of the averaging is chosen after the run (Karras et al. 2024, arXiv 2312.02696, section 3).

A power-function average weighs the parameters of step tau like tau^gamma, so it grows with the run and forgets its
start. Its relative width sigma is the standard deviation of that profile in parts of the run. Averages of a few widths,
taken along the run, together hold nearly every other: `mixture` says how much of each.

Symbols as in the paper: gamma exponent, sigma relative width, t step of a snapshot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PREFIX = "average/"  # of the slots that hold such averages
WIDEST = 0.28  # sigma of gamma = 0, the plain mean of the run, is 1 / sqrt(12) = 0.2887


@dataclass(frozen=True)
class Snapshot:
    """The average of relative width `width` as it was after `step` updates."""

    step: int
    width: float


def slot_of(width: float) -> str:
    """The slot of a training state that holds the average of this width."""
    return f"{PREFIX}{width:g}"


def exponent_of(width: float) -> float:
    """gamma of a relative width: the positive root of sigma^2 (gamma + 2)^2 (gamma + 3) = gamma + 1 (eq. 126, 127).

    Raises ValueError where there is none: sigma is above 0 and at most `WIDEST`.
    """
    if not 0 < width <= WIDEST:
        raise ValueError(f"a relative width of {width:g}; allowed: above 0, at most {WIDEST}")
    inverse = 1 / width**2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(roots.real.max())


def decay_of(gamma: float, updates: int) -> float:
    """How much of the average stays at update number `updates` (from 1): (1 - 1/t)^(gamma + 1) (eq. 2)."""
    return float((1 - 1 / updates) ** (gamma + 1))


def mixture(snapshots: Sequence[Snapshot], wanted: Snapshot) -> list[float]:
    """How much of each snapshot, (n,), together is nearest to the wanted average: least squares over the profiles.

    Solves A x = b with A_ij = <p_i, p_j>, b_i = <p_i, p_wanted> (Algorithm 3), and, unlike the paper, among all x that
    add up to 1, so that parameters that do not move are found again exactly. Only snapshots up to the wanted step take
    part; the others get 0. Raises ValueError where none is left.
    """
    usable = [place for place, one in enumerate(snapshots) if one.step <= wanted.step]
    if not usable:
        raise ValueError(f"no snapshot at or before step {wanted.step}")
    steps = np.array([snapshots[place].step for place in usable], dtype=np.float64)
    gammas = np.array([exponent_of(snapshots[place].width) for place in usable])
    products = _product(steps[:, None], gammas[:, None], steps, gammas)
    aims = _product(steps, gammas, np.array(float(wanted.step)), np.array(exponent_of(wanted.width)))
    scale = products.diagonal().max()
    ones = np.full((len(usable), 1), scale)  # the multiplier of the constraint, in numbers of the same size
    system = np.block([[products, ones], [ones.T, np.zeros((1, 1))]])
    # Profiles of near snapshots are nearly the same, and the matrix nearly singular: the smallest solution is taken.
    solved, *_ = np.linalg.lstsq(system, np.append(aims, scale), rcond=1e-13)
    weights = [0.0] * len(snapshots)
    for place, weight in zip(usable, solved[:-1], strict=True):
        weights[place] = float(weight)
    return weights


def _product(t1: Floats, g1: Floats, t2: Floats, g2: Floats) -> Floats:
    """The integral of two profiles p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t] (eq. 153)."""
    shorter = np.minimum(t1, t2)
    both = (shorter / t1) ** (g1 + 1) * (shorter / t2) ** (g2 + 1)  # powers of numbers up to 1: nothing overflows
    product: Floats = (g1 + 1) * (g2 + 1) / (g1 + g2 + 1) * both / shorter
    return product
