"""From the distance of an edge to the weight of every channel and degree of its filter."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SILU_RMS = 0.5965  # root mean square of silu of a standard normal variable
NEAREST = 0.7  # angstrom; shorter than any chemical bond


class RadialNetwork(nn.Module):
    """A bias-free network on a radial basis: zero where the basis is, so messages vanish smoothly at the cutoff."""

    def __init__(self, basis: nn.Module, cutoff: float, hidden: int, outputs: int) -> None:
        super().__init__()
        self.basis = basis
        width = _width(basis)
        self.first = nn.Parameter(torch.randn(width, hidden) / math.sqrt(width))
        self.second = nn.Parameter(torch.randn(hidden, hidden) / (SILU_RMS * math.sqrt(hidden)))
        self.last = nn.Parameter(torch.randn(hidden, outputs) / (SILU_RMS * math.sqrt(hidden)))
        # Bases differ in scale tenfold; measured on uniform distances, each starts the network with unit variance.
        # In float64 whatever the default, so that a checkpoint means the same function everywhere.
        distance = torch.linspace(min(NEAREST, cutoff / 8), cutoff, 64, dtype=torch.float64)[:-1]
        with torch.no_grad():
            self.inverse_rms = float(copy.deepcopy(basis).double()(distance).square().mean().rsqrt())

    def forward(self, distance: Tensor) -> Tensor:
        """distance: (E,) angstrom. Returns (E, outputs)."""
        hidden = F.silu(self.basis(distance) @ (self.first * self.inverse_rms))
        return F.silu(hidden @ self.second) @ self.last


def _width(basis: Any) -> int:
    number = basis.number
    if not isinstance(number, int):
        raise TypeError(f"{type(basis).__name__}.number is {number!r}; a radial basis has an int `number`")
    return number
