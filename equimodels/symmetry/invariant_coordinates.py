"""Coordinates of points that do not change when the points are moved: invariance before any network.

Shapes: B clouds, n points. Modified classical multidimensional scaling, after "Revisiting Transformation Invariant
Geometric Deep Learning: Are Initial Representations All You Need?" (TinvNN). Of that paper only the abstract was at
hand: the choice of signs below is ours.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from equimodels.symmetry.frames import TOLERANCE, principal_frame


class InvariantCoordinates(NamedTuple):
    """coordinates (B, n, 3), along the axes of rising spread; ambiguous (B,): where a motion may change them."""

    coordinates: Tensor
    ambiguous: Tensor


def invariant_coordinates(
    points: Tensor, mask: Tensor | None = None, *, reflections: bool = True, tolerance: float = TOLERANCE
) -> InvariantCoordinates:
    """points: (B, n, 3); mask: (B, n) bool, False for padding, whose coordinates are zero.

    They have the distances of the points, do not change under rotations, translations and (unless `reflections=False`)
    reflections, and follow a permutation. They are what classical multidimensional scaling finds, eigenvectors of the
    matrix of inner products times the roots of its eigenvalues, here from a 3 x 3 matrix with the same spectrum; and
    each axis points to where the third moment of the points is positive. Two clouds have the same coordinates only if a
    motion makes one of the other.

    Where two spreads agree, or a third moment is zero (a symmetric shape) to `tolerance`, the choice is not determined
    and the cloud is reported as ambiguous. Without reflections the axis of least spread has no choice: it makes the
    axes right-handed.
    """
    frame = principal_frame(points, mask, tolerance=tolerance)
    centred = points.to(torch.float64) - frame.centre[:, None]
    if mask is not None:
        centred = torch.where(mask[..., None], centred, 0.0)
    along = centred @ frame.axes
    number = along.shape[1] if mask is None else mask.sum(dim=1, keepdim=True)
    deviation = frame.spread.detach().clamp(min=0).sqrt()
    largest = deviation[:, -1:]
    # An axis without extent, of a planar cloud, has nothing to choose: its coordinates are zero.
    flat = deviation <= 1e-6 * largest
    skewness = (along.detach() ** 3).sum(dim=1) / (number * torch.where(flat, 1.0, deviation) ** 3)
    sign = torch.where(skewness < 0, -1.0, 1.0).to(along.dtype)
    unclear = (skewness.abs() <= tolerance) & ~flat
    if not reflections:
        # The axis of least spread follows from the two others: fixed, so that no two axes compete for who follows.
        unclear[:, 0] = False
        handed = torch.linalg.det(frame.axes.detach()) * sign[:, 1] * sign[:, 2]
        sign = torch.cat([handed.sign()[:, None], sign[:, 1:]], dim=1)
    ambiguous = unclear.any(dim=1) | frame.degenerate
    return InvariantCoordinates((along * sign[:, None, :]).to(points.dtype), ambiguous)
