"""Real Wigner D matrices, in float64: how spherical harmonic coefficients turn with space. For tests and contracts."""

import torch
from torch import Tensor

from equimodels.ops.quadrature import lebedev
from equimodels.ops.spherical_harmonics import degree_of_each, spherical_harmonics


def wigner_d(lmax: int, rotation: Tensor) -> Tensor:
    """rotation: (..., 3, 3) orthogonal, reflections allowed. Returns (..., n, n) float64, n = (lmax + 1)^2.

    D is defined by Y(R p) = D Y(p). Projecting Y(R p) on Y(p) with a rule of degree 2 lmax gives it to rounding
    (1e-15), for any degree, without Euler angles and their singularities.
    """
    rotation = rotation.to(torch.float64)
    points, weights = lebedev(2 * lmax)
    before = spherical_harmonics(lmax, points, normalisation="integral")
    after = spherical_harmonics(lmax, points @ rotation.mT, normalisation="integral")
    matrix = after.mT @ (weights[:, None] * before)
    degree = degree_of_each(lmax)
    # Across degrees the integral is exactly zero; say so instead of keeping the rounding.
    return torch.where(degree[:, None] == degree[None, :], matrix, 0.0)
