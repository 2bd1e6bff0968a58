"""Groups: of rotations, reflections and translations of space, and of permutations. Elements in float64.

Shapes: `...` any. An element of a group of matrices is the matrix; a permutation p is the row p(0), p(1), ...
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Group(Protocol):
    """A group whose elements are tensors."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """`count` elements drawn from the uniform (Haar) measure, along the first dimension."""
        ...

    def compose(self, first: Tensor, second: Tensor) -> Tensor:
        """The element that acts as `second`, then `first`."""
        ...

    def inverse(self, element: Tensor) -> Tensor:
        """The element that undoes `element`."""
        ...

    def identity(self) -> Tensor:
        """The element that does nothing."""
        ...


def random_rotations(count: int, generator: torch.Generator | None = None) -> Tensor:
    """(count, 3, 3) float64 rotations, uniform: unit quaternions from normal variables (Marsaglia 1972)."""
    quaternion = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    w, x, y, z = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=1),
    ]
    return torch.stack(rows, dim=1)


class _OrthogonalMatrices:
    """What holds for orthogonal matrices, (..., 3, 3), whichever the group has."""

    def compose(self, first: Tensor, second: Tensor) -> Tensor:
        """The matrix product."""
        return first @ second

    def inverse(self, element: Tensor) -> Tensor:
        """The transpose."""
        return element.mT

    def identity(self) -> Tensor:
        """(3, 3)."""
        return torch.eye(3, dtype=torch.float64)


@dataclass(frozen=True)
class Orthogonal(_OrthogonalMatrices):
    """O(3), or with `reflections=False` SO(3). Elements are (..., 3, 3) float64; a vector v becomes R v."""

    reflections: bool = True

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, 3, 3), uniform."""
        rotations = random_rotations(count, generator)
        if not self.reflections:
            return rotations
        sign = 2 * torch.randint(0, 2, (count, 1, 1), generator=generator) - 1
        return rotations * sign


@dataclass(frozen=True)
class Axial(_OrthogonalMatrices):
    """SO(2): the rotations of space about the axis y, the polar axis of the harmonics. Elements as in `Orthogonal`."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, 3, 3), uniform in the angle."""
        angle = 2 * torch.pi * torch.rand(count, dtype=torch.float64, generator=generator)
        cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
        rows = [(cosine, zero, sine), (zero, one, zero), (-sine, zero, cosine)]
        return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


@dataclass(frozen=True)
class Euclidean:
    """E(3), or subgroups of it: x becomes R x + t. Elements are (..., 4, 4) matrices [[R, t], [0, 1]].

    rotations: the group of R, None for translations alone. spread: the translations have no uniform measure and are
    drawn from a normal one of this standard deviation.
    """

    rotations: Orthogonal | Axial | None = Orthogonal()
    spread: float = 1.0

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, 4, 4)."""
        eye = torch.eye(3, dtype=torch.float64).expand(count, 3, 3)
        linear = eye if self.rotations is None else self.rotations.sample(count, generator)
        return euclidean(linear, self.spread * torch.randn(count, 3, dtype=torch.float64, generator=generator))

    def compose(self, first: Tensor, second: Tensor) -> Tensor:
        """The matrix product."""
        return first @ second

    def inverse(self, element: Tensor) -> Tensor:
        """x becomes R^T (x - t)."""
        back = element[..., :3, :3].mT
        return euclidean(back, -(back @ element[..., :3, 3:]).squeeze(-1))

    def identity(self) -> Tensor:
        """(4, 4)."""
        return torch.eye(4, dtype=torch.float64)


@dataclass(frozen=True)
class Permutations:
    """S_n. Elements are (..., n) int64: what stands at i goes to p(i)."""

    size: int

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, n), uniform."""
        rows = [torch.randperm(self.size, generator=generator) for _ in range(count)]
        return torch.stack(rows) if rows else torch.empty(0, self.size, dtype=torch.int64)

    def compose(self, first: Tensor, second: Tensor) -> Tensor:
        """i goes to first(second(i))."""
        return torch.gather(first.expand_as(second), -1, second)

    def inverse(self, element: Tensor) -> Tensor:
        """p(i) goes to i."""
        return element.argsort(-1)

    def identity(self) -> Tensor:
        """(n,): 0, 1, ..."""
        return torch.arange(self.size)


def euclidean(linear: Tensor, translation: Tensor) -> Tensor:
    """linear: (..., 3, 3); translation: (..., 3). Returns the element (..., 4, 4) of `Euclidean`."""
    top = torch.cat([linear, translation[..., None]], dim=-1)
    last = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, last], dim=-2)
