"""How features change when space is turned: one matrix for each element of the group."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from equimodels.ops.wigner import wigner_d


class Representation(Protocol):
    """A linear action on the last dimension of a tensor."""

    def matrix(self, element: Tensor) -> Tensor:
        """element: (3, 3) orthogonal. Returns (d, d) float64."""
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
    """Three Cartesian components."""

    def matrix(self, element: Tensor) -> Tensor:
        """The element itself."""
        return element.to(torch.float64)


@dataclass(frozen=True)
class Harmonic:
    """(lmax + 1)^2 coefficients of real spherical harmonics, of natural parity."""

    lmax: int

    def matrix(self, element: Tensor) -> Tensor:
        """The Wigner D matrix."""
        return wigner_d(self.lmax, element)


def act(representation: Representation, element: Tensor, x: Tensor) -> Tensor:
    """x: (..., d). The transformed tensor in the dtype of x, computed in float64."""
    return (x.to(torch.float64) @ representation.matrix(element).mT).to(x.dtype)
