"""How features change under a group: a matrix for each element, on the last dimension of a tensor.

Shapes: `...` any, d components, n points. Elements of O(3) are (3, 3), those of E(3) (4, 4): what does not feel
translations takes either. Batches of elements, (B, 3, 3), give batches of matrices.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from equimodels.ops.wigner import block_wigner_D


class Representation(Protocol):
    """A linear action on the last dimension of a tensor."""

    def matrix(self, element: Tensor) -> Tensor:
        """Returns (d, d) float64, with matrix(g h) = matrix(g) matrix(h)."""
        ...


@runtime_checkable
class Action(Protocol):
    """A representation that acts in a way of its own, not by a matrix on the last dimension."""

    def act(self, element: Tensor, x: Tensor) -> Tensor:
        """x: (..., d) float64, transformed; for a batch of elements (B, ..., k, d)."""
        ...


@dataclass(frozen=True)
class Invariant:
    """`width` numbers that do not change."""

    width: int = 1

    def matrix(self, element: Tensor) -> Tensor:
        """The identity."""
        return torch.eye(self.width, dtype=torch.float64)


@dataclass(frozen=True)
class Vector:
    """Three Cartesian components: a force, a velocity. Feels no translation."""

    def matrix(self, element: Tensor) -> Tensor:
        """R."""
        return _linear(element)


@dataclass(frozen=True)
class Harmonic:
    """(lmax + 1)^2 coefficients of real spherical harmonics, of natural parity."""

    lmax: int

    def matrix(self, element: Tensor) -> Tensor:
        """The Wigner D matrix."""
        return block_wigner_D(self.lmax, _linear(element))


@dataclass(frozen=True)
class Pseudo:
    """Another representation times the determinant: an axial vector is `Pseudo(Vector())`."""

    of: Representation

    def matrix(self, element: Tensor) -> Tensor:
        """det(R) matrix(R)."""
        sign: Tensor = torch.linalg.det(_linear(element))
        return sign[..., None, None] * self.of.matrix(element)


@dataclass(frozen=True)
class Sum:
    """Several representations side by side in one tensor."""

    parts: tuple[Representation, ...]

    def matrix(self, element: Tensor) -> Tensor:
        """The block diagonal matrix."""
        blocks = [part.matrix(element) for part in self.parts]
        batch = torch.broadcast_shapes(*[block.shape[:-2] for block in blocks])  # type: ignore[no-untyped-call]
        width, before, rows = sum(block.shape[-1] for block in blocks), 0, []
        for block in blocks:
            after = width - before - block.shape[-1]
            rows.append(F.pad(block, (before, after)).expand(*batch, block.shape[-2], width))
            before += block.shape[-1]
        return torch.cat(rows, dim=-2)


@dataclass(frozen=True)
class Product:
    """All products of components of several, the last index fastest: a stress is `Product((Vector(), Vector()))`."""

    parts: tuple[Representation, ...]

    def matrix(self, element: Tensor) -> Tensor:
        """The Kronecker product."""
        return reduce(_kronecker, [part.matrix(element) for part in self.parts])


@dataclass(frozen=True)
class Point:
    """Positions: they turn with O(3), and move with E(3)."""

    def matrix(self, element: Tensor) -> Tensor:
        """The element itself: of E(3) (4, 4), for homogeneous coordinates (x, y, z, 1)."""
        return element.to(torch.float64)

    def act(self, element: Tensor, x: Tensor) -> Tensor:
        """R x + t."""
        turned = x @ _linear(element).mT
        return turned if element.shape[-1] == 3 else turned + element[..., None, :3, 3].to(torch.float64)


@dataclass(frozen=True)
class Items:
    """n things under S_n: points, atoms, tokens. They lie along dimension `axis` of the tensor."""

    axis: int = -2

    def matrix(self, element: Tensor) -> Tensor:
        """(n, n): one in column i and row p(i)."""
        eye = torch.eye(element.shape[-1], dtype=torch.float64, device=element.device)
        return eye[element].mT

    def act(self, element: Tensor, x: Tensor) -> Tensor:
        """What stands at i goes to p(i)."""
        return x.index_select(self.axis, element.argsort(-1))


def act(representation: Representation, element: Tensor, x: Tensor) -> Tensor:
    """x: (..., d). The transformed tensor in the dtype of x, computed in float64."""
    precise = x.to(torch.float64)
    if isinstance(representation, Action):
        return representation.act(element, precise).to(x.dtype)
    return (precise @ representation.matrix(element).to(x.device).mT).to(x.dtype)


def _linear(element: Tensor) -> Tensor:
    """R of an element of O(3) or E(3)."""
    return element[..., :3, :3].to(torch.float64)


def _kronecker(a: Tensor, b: Tensor) -> Tensor:
    """(..., m, m) and (..., n, n) to (..., m n, m n)."""
    return (a[..., :, None, :, None] * b[..., None, :, None, :]).flatten(-4, -3).flatten(-2, -1)
