"""From noise to images along a learned velocity, in steps of equal length.

Shapes: B images, C channels, H x W pixels. Time: t = 1 is noise, t = 0 is data.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from equimodels.errors import require


@torch.no_grad()
def euler(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, *, steps: int) -> Tensor:
    """Solve dx/dt = velocity(x, t) from `noise` at t = 1 down to t = 0 by Euler's method; the error falls as 1 / steps.

    velocity: a model in eval mode, (x (B, C, H, W), t (B,)) -> (B, C, H, W). Returns (B, C, H, W) on the scale that the
    model was trained on; `PixelScale.restore` takes it back to that of the dataset. Raises SettingError if steps < 1.
    """
    require(steps >= 1, "steps", steps, "at least 1")
    x = noise
    for step in range(steps, 0, -1):
        t = x.new_full((x.shape[0],), step / steps)
        x = x - velocity(x, t) / steps
    return x
