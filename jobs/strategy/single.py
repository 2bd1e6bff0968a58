"""Plain torch in one process: the reference that every sharded strategy must agree with."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jobs.spec.train import Optimizer, Strategy


def adamw(model: nn.Module, optimizer: Optimizer) -> torch.optim.AdamW:
    """The optimizer of the spec, over all parameters of the model."""
    settings = optimizer.params
    return torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, betas=settings.betas
    )


class SingleEngine:
    """One process, one copy of everything."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, strategy: Strategy) -> None:
        self.module = model
        self._optimizer = adamw(model, optimizer)
        self._clipping = strategy.gradient_clipping
        self._half = strategy.precision == "bf16"

    def forward(self, *inputs: Any) -> Any:
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self._half):
            return self.module(*inputs)

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward([loss])

    def step(self, lr: float) -> None:
        nn.utils.clip_grad_norm_(self.module.parameters(), self._clipping)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def save(self, folder: Path) -> None:
        state = {"model": self.module.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save(state, folder / "state.pt")

    def load(self, folder: Path) -> None:
        state = torch.load(folder / "state.pt", weights_only=True)
        self.module.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
