"""The principal axes of a cloud of points: a frame that moves with it, up to the signs of the axes.

Shapes: B clouds, n points. Source: Puny et al. 2021 (arXiv 2110.03336), section 3.1.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from equimodels.errors import require

# Smallest distance of two eigenvalues, in units of the largest, at which axes count as determined. There the rounding
# of positions in float32 (6e-8) turns axes by about 1e-5.
TOLERANCE = 1e-2


class Frame(NamedTuple):
    """centre (B, 3); axes (B, 3, 3), columns in order of rising spread; spread (B, 3), the eigenvalues.

    degenerate (B,): where two spreads agree (or all are zero), and the axes are arbitrary.
    """

    centre: Tensor
    axes: Tensor
    spread: Tensor
    degenerate: Tensor


class DegenerateFrameError(ValueError):
    """Some clouds have no principal axes: `clouds` are their numbers in the batch."""

    def __init__(self, clouds: tuple[int, ...]) -> None:
        super().__init__(
            f"no principal axes, because two spreads agree (a line, a single point, a symmetric shape): clouds {clouds}"
        )
        self.clouds = clouds

    def __reduce__(self) -> tuple[Any, ...]:
        return DegenerateFrameError, (self.clouds,)


def principal_frame(points: Tensor, mask: Tensor | None = None, *, tolerance: float = TOLERANCE) -> Frame:
    """points: (B, n, 3); mask: (B, n) bool, False for padding. Returns the frame of each cloud, in float64.

    Derivatives of every order are right where the cloud is not degenerate, and finite where it is: there, what an axis
    would contribute by turning towards one it cannot be told from is left out. Raises SettingError for a wrong shape.
    """
    require(points.dim() == 3 and points.shape[-1] == 3, "points", tuple(points.shape), "a shape (B, n, 3)")
    weight = points.new_ones(points.shape[:2]) if mask is None else mask
    weight = weight.to(torch.float64)[..., None]
    # NaN in the padding must not reach the sums.
    precise = points.to(torch.float64).masked_fill(weight == 0, 0.0)
    count = weight.sum(dim=1, keepdim=True).clamp(min=1.0)
    centre = precise.sum(dim=1, keepdim=True) / count
    apart = (precise - centre) * weight
    spread, axes = _Eigen.apply(apart.mT @ apart / count, tolerance)  # type: ignore[no-untyped-call]
    gap = spread.detach().diff(dim=1).amin(dim=1)
    return Frame(centre.squeeze(1), axes, spread, ~(gap > tolerance * spread.detach()[:, -1]))


class _Eigen(Function):
    """`torch.linalg.eigh` of (B, d, d), whose derivative is not infinite where eigenvalues agree."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        ctx.tolerance = tolerance
        ctx.save_for_backward(values, vectors)
        return values, vectors

    @staticmethod
    def backward(ctx: Any, by_values: Tensor, by_vectors: Tensor) -> tuple[Tensor, None]:
        values, vectors = ctx.saved_tensors
        difference = values[:, None, :] - values[:, :, None]
        apart = difference.abs() > ctx.tolerance * values[:, None, -1:].abs()
        turning = torch.where(apart, 1 / torch.where(apart, difference, 1.0), 0.0)
        inner = torch.diag_embed(by_values) + turning * (vectors.mT @ by_vectors)
        gradient = vectors @ inner @ vectors.mT
        return (gradient + gradient.mT) / 2, None
