"""Weights for each degree: linear maps that commute with rotations and reflections.

Shapes: `...` any, C channels, n = (lmax + 1)^2 coefficients.
"""

from torch import Tensor

from equimodels.ops.spherical_harmonics import degree_of_each


def per_degree(x: Tensor, scale: Tensor | None) -> Tensor:
    """Multiply each degree of x (..., n) by its entry of scale (..., lmax + 1); None leaves x as it is."""
    if scale is None:
        return x
    lmax = scale.shape[-1] - 1
    return x * scale.index_select(-1, degree_of_each(lmax).to(scale.device))


def mix_channels(x: Tensor, weight: Tensor) -> Tensor:
    """x: (..., C, n); weight: (C, D), or (lmax + 1, C, D), one matrix a degree. Returns (..., D, n)."""
    if weight.dim() == 2:
        return weight.mT @ x
    each = weight.index_select(0, degree_of_each(weight.shape[0] - 1).to(weight.device))
    return (
        (x.movedim(-1, 0).unsqueeze(-2) @ each.view(-1, *[1] * (x.dim() - 2), *each.shape[1:]))
        .squeeze(-2)
        .movedim(0, -1)
    )
