"""Exponential moving average of the weights: what is evaluated and published."""

import copy

import torch
from torch import nn


class AveragedModel:
    """A copy of the model whose parameters follow the trained ones slowly.

    The decay warms up as min(decay, (1 + n) / (10 + n)) over the number n of updates, so that the random start is
    forgotten. Buffers are copied. With decay 0 the copy equals the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Move towards `model` after optimizer step number `updates` (from 1)."""
        decay = min(self._decay, (1 + updates) / (10 + updates))
        for slow, fast in zip(self.module.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast.to(slow.dtype), 1 - decay)
        for held, given in zip(self.module.buffers(), model.buffers(), strict=True):
            held.copy_(given)
