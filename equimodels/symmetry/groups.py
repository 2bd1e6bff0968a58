"""The groups of rotations and reflections of space, as orthogonal 3 x 3 matrices in float64."""

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


@dataclass(frozen=True)
class Orthogonal:
    """O(3), or with `reflections=False` SO(3). Elements are (..., 3, 3) float64; a vector v becomes R v."""

    reflections: bool = True

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, 3, 3), uniform."""
        rotations = random_rotations(count, generator)
        if not self.reflections:
            return rotations
        sign = 2 * torch.randint(0, 2, (count, 1, 1), generator=generator) - 1
        return rotations * sign

    def compose(self, first: Tensor, second: Tensor) -> Tensor:
        """The matrix product."""
        return first @ second

    def inverse(self, element: Tensor) -> Tensor:
        """The transpose."""
        return element.mT

    def identity(self) -> Tensor:
        """(3, 3)."""
        return torch.eye(3, dtype=torch.float64)
