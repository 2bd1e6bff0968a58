"""Rotations as six numbers without a jump: what a network that predicts rotations puts out.

Shapes: `...` any. Source: Zhou, Barnes, Lu, Yang and Li 2019 (arXiv 1812.07035), section 4 and eq. 15 and 16: every
parameterisation of SO(3) by four numbers or fewer (Euler angles, quaternions) jumps somewhere, six suffice.
"""

import torch
from torch import Tensor

COLLINEAR = 1e-6  # sine of the angle between the two vectors below which they do not fix a rotation


def rotation_from_6d(x: Tensor) -> Tensor:
    """x: (..., 6), two vectors one after the other. Returns rotations (..., 3, 3), R^T R = I and det R = 1.

    The first two columns are the vectors made orthonormal (Gram and Schmidt), the third is their cross product. Where
    the vectors are collinear or one is zero (`undetermined`) the answer is still a rotation with finite derivatives:
    some axis stands in for what is missing.
    """
    first, second = x[..., :3], x[..., 3:]
    lost = (first.detach() == 0).all(dim=-1, keepdim=True)
    first = _unit(torch.where(lost, first.new_tensor([1.0, 0.0, 0.0]), first))
    # The axis that is farthest from the first vector can take the place of the second.
    farthest = first.detach().abs().argmin(dim=-1)
    axis = torch.nn.functional.one_hot(farthest, 3).to(x.dtype)
    second = torch.where(undetermined(x)[..., None], axis, second)
    # Twice: after one subtraction of nearly parallel vectors rounding leaves them only nearly orthogonal.
    for _ in range(2):
        second = _unit(_unit(second) - (first * _unit(second)).sum(-1, keepdim=True) * first)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def rotation_to_6d(rotation: Tensor) -> Tensor:
    """rotation: (..., 3, 3). Returns (..., 6), its first two columns; `rotation_from_6d` gives the rotation back."""
    return torch.cat([rotation[..., 0], rotation[..., 1]], dim=-1)


def undetermined(x: Tensor) -> Tensor:
    """x: (..., 6). Returns (...) bool: the two vectors are collinear to 1e-6, or one is zero."""
    # Of unit vectors: the product of tiny ones would underflow. The unit of zero is zero.
    area = torch.linalg.cross(_unit(x[..., :3].detach()), _unit(x[..., 3:].detach()))
    sine: Tensor = torch.linalg.vector_norm(area, dim=-1)
    return ~(sine > COLLINEAR)


def _unit(v: Tensor) -> Tensor:
    """v over its length, by its largest component first: squares of 1e-30 would vanish in float32."""
    v = v / v.detach().abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)
    length: Tensor = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return v / length.clamp(min=torch.finfo(v.dtype).tiny)
