"""Quadrature on the unit sphere: points and weights that integrate polynomials exactly.

Source of Lebedev's rules: Lebedev and Laikov 1999, as tabulated by SciPy. They are symmetric under inversion and under
the rotations of the octahedron, and need fewer points than a product of Gauss-Legendre and uniform azimuth, which there
is for any degree.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from equimodels.errors import require

# Every degree for which a Lebedev rule is tabulated.
DEGREES: tuple[int, ...] = (*range(3, 32, 2), *range(35, 132, 6))


def lebedev_degree(degree: int) -> int:
    """The smallest tabulated degree that is at least `degree`. Raises SettingError outside 0..131."""
    require(0 <= degree <= DEGREES[-1], "degree", degree, f"0 to {DEGREES[-1]}, the Lebedev rules SciPy has")
    return next(tabulated for tabulated in DEGREES if tabulated >= degree)


@cache
def _rule(degree: int) -> tuple[Tensor, Tensor]:
    from scipy.integrate import lebedev_rule  # here: its other modules take longer to import than a command should

    points, weights = lebedev_rule(degree)
    # SciPy lays points out as (3, P).
    return torch.from_numpy(points.T.copy()), torch.from_numpy(weights.copy())


def lebedev(degree: int) -> tuple[Tensor, Tensor]:
    """Points (P, 3) on the unit sphere and weights (P,), float64; the weights sum to 4 pi.

    Integrates every polynomial of degree <= `degree` exactly. Some weights of the rules of degree 13, 25 and 27 are
    negative: never take their square root. Raises SettingError for a degree without a rule.
    """
    points, weights = _rule(lebedev_degree(degree))
    return points.clone(), weights.clone()


def gauss_legendre(degree: int) -> tuple[Tensor, Tensor]:
    """Points (P, 3) on the unit sphere and weights (P,), float64, all positive; the weights sum to 4 pi.

    Integrates every polynomial of degree <= `degree` exactly: degree // 2 + 1 circles of latitude about the polar axis
    y, with degree + 1 points each. Raises SettingError for a negative degree.
    """
    require(degree >= 0, "degree", degree, "0 or more")
    heights, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(degree // 2 + 1))
    azimuth = torch.arange(degree + 1, dtype=torch.float64) * (2 * math.pi / (degree + 1))
    y, phi = (each.flatten() for each in torch.meshgrid(heights, azimuth, indexing="ij"))
    across = (1 - y.square()).sqrt()
    points = torch.stack([across * phi.sin(), y, across * phi.cos()], dim=1)
    return points, weights.repeat_interleave(degree + 1) * (2 * math.pi / (degree + 1))


def half_sphere(points: Tensor) -> Tensor:
    """(P,) bool: one point of each pair (p, -p). points: (P, 3), a set that inversion maps to itself."""
    x, y, z = torch.where(points.abs() < 1e-9, 0.0, points).unbind(1)  # noise of the tables must not break ties
    return (z > 0) | ((z == 0) & ((y > 0) | ((y == 0) & (x > 0))))
