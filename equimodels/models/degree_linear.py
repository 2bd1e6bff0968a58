"""Mixing of channels, one matrix for each degree: the linear maps that commute with rotations and reflections."""

import math

import torch
from torch import Tensor, nn

from equimodels.ops.spherical_harmonics import degree_of_each


class DegreeLinear(nn.Module):
    """(N, C_in, n) to (N, C_out, n), n = (lmax + 1)^2; at first keeps the variance of independent channels."""

    spread: Tensor

    def __init__(self, lmax: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(lmax + 1, channels_in, channels_out) / math.sqrt(channels_in))
        self.register_buffer("spread", degree_of_each(lmax), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C_in, n). Returns (N, C_out, n)."""
        if self.weight.shape[0] == 1:
            return (x.squeeze(2) @ self.weight[0]).unsqueeze(2)
        # One batched matrix product over the coefficients instead of one product a degree.
        return torch.bmm(x.permute(2, 0, 1), self.weight.index_select(0, self.spread)).permute(1, 2, 0)
