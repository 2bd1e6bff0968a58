"""Real spherical harmonics, as polynomials in x, y, z.

Order: index l*l + l + m with m = -l..l; the polar axis is y and the azimuth is atan2(x, z), with no Condon-Shortley
phase, so that degree one is (x, y, z): the conventions of e3nn. Shapes: `...` any, n = (lmax + 1)^2 coefficients.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from equimodels.errors import require
from equimodels.ops.recomputed import recomputed
from equimodels.ops.tracing import is_traced

Normalization = Literal["integral", "component", "norm"]
MAX_DEGREE = 12  # checked against an oracle up to here; the recursion itself has no limit
BLOCK = 1 << 20  # numbers of harmonics that are made at once; meanwhile there are about four times as many


def degree_slices(lmax: int) -> list[slice]:
    """Where each degree l = 0..lmax lies among the (lmax + 1)^2 coefficients."""
    return [slice(l * l, (l + 1) ** 2) for l in range(lmax + 1)]  # noqa: E741


def degree_of_each(lmax: int) -> Tensor:
    """(n,) int64: the degree of every coefficient."""
    return torch.tensor([degree for degree in range(lmax + 1) for _ in range(2 * degree + 1)])


def spherical_harmonics(
    lmax: int, vectors: Tensor, *, normalization: Normalization = "component", normalize: bool = True
) -> Tensor:
    """vectors: (..., 3). Returns (..., n) in their dtype.

    normalization: `integral` makes the functions orthonormal on the sphere; `component` makes the mean square of each
    one 1; `norm` makes each degree a unit vector. With `normalize=False` the vectors are taken as they are and degree l
    is a homogeneous polynomial of degree l; else they are divided by their length. A vector of length zero has no
    direction: degree 0 is what it is everywhere, all higher degrees are zero, and so are all derivatives there.

    Everything is a polynomial of x, y, z (no angles), so all derivatives are finite at the poles too. Many vectors are
    done in blocks, which are computed again for derivatives.
    Raises SettingError for lmax outside 0..12 or an unknown normalization.
    """
    step = BLOCK // (lmax + 1) ** 2 if lmax >= 0 else BLOCK
    if is_traced() or vectors.shape[:-1].numel() <= step:
        return _of_vectors(lmax, vectors, normalization, normalize)
    (values,) = recomputed(
        lambda rows: (_of_vectors(lmax, rows, normalization, normalize),), (vectors.reshape(-1, 3),), step=step
    )
    return values.view(*vectors.shape[:-1], -1)


def _of_vectors(lmax: int, vectors: Tensor, normalization: Normalization, normalize: bool) -> Tensor:
    """`spherical_harmonics`, all at once."""
    if not normalize:
        return _recursion(lmax, vectors, normalization, vectors.square().sum(dim=-1))
    square = vectors.square().sum(dim=-1, keepdim=True)
    nowhere = square == 0
    # Both branches of `where` are differentiated: the root must not see the zero.
    unit = vectors * torch.where(nowhere, 0.0, torch.where(nowhere, 1.0, square).rsqrt())
    values = harmonics_of_unit_vectors(lmax, unit, normalization=normalization)
    directed = torch.arange(values.shape[-1], device=values.device) > 0
    return torch.where(nowhere & directed, 0.0, values)


def harmonics_of_unit_vectors(lmax: int, unit: Tensor, *, normalization: Normalization = "component") -> Tensor:
    """As `spherical_harmonics`, for (..., 3) of length 1: right on the sphere only, and a third fewer operations.

    The derivative is right for vectors that are kept on the sphere by what made them, such as a division by the length.
    """
    return _recursion(lmax, unit, normalization, None)


def _recursion(lmax: int, vectors: Tensor, normalization: Normalization, square: Tensor | None) -> Tensor:
    """square: (...), the squared length, or None where it is 1."""
    require(0 <= lmax <= MAX_DEGREE, "lmax", lmax, f"0 to {MAX_DEGREE}")
    require(normalization in get_args(Normalization), "normalization", normalization, "integral, component, norm")
    x, y, z = vectors.unbind(-1)
    columns: dict[int, Tensor] = {}
    one = torch.ones_like(y)
    cosine, sine = one, torch.zeros_like(y)  # real and imaginary part of (z + i x)^m
    sectoral = math.sqrt(1 / (4 * math.pi))
    for m in range(lmax + 1):
        if m:
            cosine, sine = (z, x) if m == 1 else (z * cosine - x * sine, z * sine + x * cosine)
            sectoral *= math.sqrt((2 * m + 1) / (2 * m)) * (math.sqrt(2) if m == 1 else 1)
        for degree, legendre in enumerate(_legendre(lmax, m, sectoral, y, square), start=m):
            centre = degree * degree + degree
            factor = legendre * _scale(degree, normalization)
            columns[centre + m] = factor * cosine
            if m:
                columns[centre - m] = factor * sine
    return torch.stack([columns[index] for index in range(len(columns))], dim=-1)


def _scale(degree: int, normalization: Normalization) -> float:
    """Factor from the orthonormal functions to those asked for."""
    if normalization == "integral":
        return 1.0
    component = math.sqrt(4 * math.pi)
    return component if normalization == "component" else component / math.sqrt(2 * degree + 1)


def _legendre(lmax: int, m: int, sectoral: float, y: Tensor, square: Tensor | None) -> list[Tensor | float]:
    """Normalised associated Legendre polynomials of order m, degrees m..lmax, without the factor sin^m.

    The fully normalized three-term recursion (Holmes and Featherstone 2002), which neither over- nor underflows.
    """
    values: list[Tensor | float] = [sectoral]
    for degree in range(m + 1, lmax + 1):
        a = math.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
        value: Tensor | float = values[-1] * (a * y)
        if degree >= m + 2:
            b = a * math.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1))
            before = values[-2]
            value = value - b * (before if square is None else before * square)
        values.append(value)
    return values
