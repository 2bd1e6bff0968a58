"""Real Wigner D matrices, in float64: how spherical harmonic coefficients turn with space. For tests and contracts."""

import torch
from torch import Tensor

from equimodels.ops.quadrature import lebedev
from equimodels.ops.spherical_harmonics import degree_of_each, degree_slices, spherical_harmonics


def wigner_D(degree: int, rotation: Tensor) -> Tensor:  # noqa: N802 (the field's name)
    """D of one degree l: Y_l(R p) = D Y_l(p).

    rotation: (..., 3, 3) orthogonal, reflections allowed. Returns (..., 2 l + 1, 2 l + 1) float64, of natural parity:
    D(-1) = (-1)^l. Raises SettingError for a degree outside 0..12.
    """
    block = degree_slices(degree)[-1] if degree >= 0 else slice(0)
    return block_wigner_D(degree, rotation)[..., block, block]


def block_wigner_D(lmax: int, rotation: Tensor) -> Tensor:  # noqa: N802
    """The block diagonal matrix of degrees 0..lmax: Y(R p) = D Y(p).

    rotation: (..., 3, 3) orthogonal, reflections allowed. Returns (..., n, n) float64, n = (lmax + 1)^2.
    Projecting Y(R p) on Y(p) with a rule of degree 2 lmax gives it to rounding (1e-15), for any degree, without Euler
    angles and their singularities. Raises SettingError for lmax outside 0..12.
    """
    rotation = rotation.to(torch.float64)
    points, weighted = (table.to(rotation.device) for table in _projection(lmax))
    after = spherical_harmonics(lmax, points @ rotation.mT, normalization="integral")
    matrix = after.mT @ weighted
    degree = degree_of_each(lmax).to(rotation.device)
    # Across degrees the integral is exactly zero; say so instead of keeping the rounding.
    return torch.where(degree[:, None] == degree[None, :], matrix, 0.0)


def _projection(lmax: int) -> tuple[Tensor, Tensor]:
    """Points (P, 3) of a rule of degree 2 lmax, and the harmonics on them times its weights, (P, n)."""
    points, weights = lebedev(max(2 * lmax, 0))
    return points, weights[:, None] * spherical_harmonics(lmax, points, normalization="integral")


# The mark that `torch.compiler.assume_constant_result` sets. It imports the compiler to do so: two seconds for every
# process that imports an operation, and a folder in its temporary directory.
_projection._dynamo_marked_constant = True  # type: ignore[attr-defined]
