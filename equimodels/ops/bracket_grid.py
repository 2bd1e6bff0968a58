"""The grid of the antisymmetric product of two functions on the sphere: their Poisson bracket.

With L = r x grad, the bracket is {x, y}(r) = r . (L x (r) x L y (r)). Two functions of degrees l1 and l2 have a bracket
of degree at most l1 + l2 - 1 with every path of odd l1 + l2 + l3. Bochkarev, Lysogorskiy and Drautz 2026 (arXiv
2605.15073). Shapes: n_i = (lmax_i + 1)^2 coefficients, P grid points.
"""

import math

import torch
from torch import Tensor

from equimodels.ops.quadrature import half_sphere, lebedev
from equimodels.ops.spherical_harmonics import degree_of_each, spherical_harmonics
from equimodels.ops.trilinear import Trilinear
from equimodels.ops.trilinear_sides import FoldedSide, Side

FOLD_FROM = 24  # degree of the rule; as for the pointwise product


def bracket(lmax1: int, lmax2: int, lmax_out: int, degree: int, *, fold: bool | None = None) -> Trilinear:
    """The form of the Poisson bracket, by a Lebedev rule exact to `degree`; folded where faster, or as said."""
    points, weights = lebedev(degree)
    # In a tangent frame with e1 x e2 = r the bracket is u1 v2 - u2 v1: u times v turned by 90 degrees.
    u = rotation_rates(lmax1, points)
    v = rotation_rates(lmax2, points)
    back = spherical_harmonics(lmax_out, points, normalization="component").mT * (weights / (4 * math.pi))
    tables = u, torch.stack([v[1], -v[0]]), back[None]
    if not (degree >= FOLD_FROM if fold is None else fold):
        return Trilinear([Side(table) for table in tables], [(0, 0, 0), (1, 1, 0)])
    # L keeps the parity of a function and r changes sign: the even part comes from one even and one odd factor.
    half = half_sphere(points)
    sides = [
        FoldedSide(table[:, :, half] * factor, degree_of_each(lmax) % 2 == 0)
        for table, lmax, factor in zip(tables, (lmax1, lmax2, lmax_out), (1, 1, 2), strict=True)
    ]
    even, odd = (0, 1), (2, 3)  # components of an operand
    terms = [(a, b, 0) for pair in ((even, odd), (odd, even)) for a, b in zip(*pair, strict=True)]
    terms += [(a, b, 1) for pair in ((even, even), (odd, odd)) for a, b in zip(*pair, strict=True)]
    return Trilinear(sides, terms)


def rotation_rates(lmax: int, points: Tensor) -> Tensor:
    """(2, n, P): the components of L Y = r x grad Y along e1 and e2 of a tangent frame at points (P, 3) float64."""
    least = torch.nn.functional.one_hot(points.abs().argmin(dim=1), 3).to(points)
    first = torch.linalg.cross(points, least)
    first = first / torch.linalg.vector_norm(first, dim=1, keepdim=True)
    second = torch.linalg.cross(points, first)
    # e . (r x grad Y) is the rate of Y along e x r: along -e2 for e1, along e1 for e2.
    return torch.stack([_rate(lmax, points, -second), _rate(lmax, points, first)])


def _rate(lmax: int, points: Tensor, direction: Tensor) -> Tensor:
    """(n, P): the derivative of every harmonic along the direction (P, 3): the gradient by w of the gradient of Y w."""
    with torch.inference_mode(False), torch.enable_grad():
        points = points.clone().requires_grad_()
        values = spherical_harmonics(lmax, points, normalization="component")
        weight = torch.zeros_like(values, requires_grad=True)
        (gradient,) = torch.autograd.grad(values, points, weight, create_graph=True)
        return torch.autograd.grad(gradient, weight, direction)[0].mT
