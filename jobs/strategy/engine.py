"""What the training loop needs of a strategy: forward, backward, step, and this rank's part of the training state."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from jobs.state.piece import Find, Piece, Pieces, Slots


class Engine(Protocol):
    """A model and its optimizer, executed by one strategy.

    The trained numbers are fp32 whatever the precision of the forward pass. Names of parameters are the module's own,
    whatever a strategy wraps around it. Buffers are facts of the model: constant, and no part of the state.
    """

    @property
    def module(self) -> nn.Module:
        """The model itself; what `forward` calls. Switched between training and evaluation by the loop."""
        ...

    def forward(self, *inputs: Any) -> Any:
        """The model's output; gradients of a loss on it reach the optimizer through `backward`."""
        ...

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        """Add the gradients of `loss`; with the `last` of a step they are averaged over all of them and the ranks."""
        ...

    def step(self, lr: float, *, limit: float = math.inf) -> float:
        """One clipped optimizer step; the norm of the gradients before clipping, the same on every rank.

        Where the norm is not finite or above `limit`, nothing changes. Gradients are cleared either way.
        """
        ...

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all trained parameters, whole."""
        ...

    def values(self) -> Pieces:
        """This rank's part of the parameters: views, valid until the next step."""
        ...

    def moments(self) -> Slots:
        """This rank's part of the optimizer's state: views, valid until the next step; empty before the first one."""
        ...

    def counters(self) -> dict[str, int]:
        """Numbers that the optimizer counts, alike on every rank: `steps`."""
        ...

    def install(self, values: Mapping[str, Piece]) -> None:
        """Let `forward` use these parameters, laid out as `values()`. Called on every rank."""
        ...

    def load(self, find: Find, counters: Mapping[str, int]) -> None:
        """Take parameters and the optimizer's state from a saved one. Called on every rank."""
        ...
