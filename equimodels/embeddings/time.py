"""The time of a diffusion, as features.

Shapes: B images, F features. Time is a number from 0 (data) to 1 (noise).
"""

import math

import torch
from torch import Tensor, nn

from equimodels.errors import require


class FourierTime(nn.Module):
    """cos(w_k t), sin(w_k t) with wave numbers w_k in geometric progression from 1 to `highest` radians.

    The positional code of Vaswani et al. 2017, on a time in [0, 1] instead of an integer. Its usual range of
    1,000 radians is for a thousand steps: 100 tell apart times 0.01 apart, and the velocity is smoother than that.
    """

    wave_numbers: Tensor

    def __init__(self, features: int, *, highest: float = 100.0) -> None:
        super().__init__()
        require(features >= 4 and features % 2 == 0, "features", features, "even, at least 4")
        require(highest > 1, "highest", highest, "more than 1 radian")
        exponents = torch.linspace(0.0, math.log(highest), features // 2, dtype=torch.float64)
        self.register_buffer("wave_numbers", exponents.exp().to(torch.get_default_dtype()), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """t: (B,). Returns (B, F), in float32 at least: 100 radians leave bfloat16 no digit after the point."""
        precise = torch.promote_types(t.dtype, torch.float32)
        angles = t.to(precise)[:, None] * self.wave_numbers.to(precise)
        return torch.cat([angles.cos(), angles.sin()], dim=-1)
