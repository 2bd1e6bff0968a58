"""What the training loop needs of a strategy: forward, backward, step, and its state in a folder."""

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Engine(Protocol):
    """A model and its optimizer, executed by one strategy."""

    @property
    def module(self) -> nn.Module:
        """The model itself, with the current weights."""
        ...

    def forward(self, *inputs: Any) -> Any:
        """The model's output; gradients of a loss on it reach the optimizer through `backward`."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Gradients of the mean of `loss` over all ranks."""
        ...

    def step(self, lr: float) -> None:
        """One clipped optimizer step with this learning rate; clears the gradients."""
        ...

    def save(self, folder: Path) -> None:
        """Write this rank's state below `folder`. Called on every rank."""
        ...

    def load(self, folder: Path) -> None:
        """Read back what `save` wrote. Called on every rank."""
        ...
