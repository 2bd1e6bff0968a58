"""How long a call takes, the same for us and for a peer of another environment. Nothing but torch."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

LEAST = 3  # calls


def timed(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    learned: Sequence[Tensor] = (),
    *,
    backward: bool,
    seconds: float,
) -> float:
    """Milliseconds of a call: the median of those that fit into `seconds`, and of no fewer than three.

    Not the least of them: of the slower side there are fewer. backward: with the gradient, for a cotangent that is not
    constant, by what is `learned` and those `inputs` that require one.
    """
    wanted = [tensor for tensor in (*inputs, *learned) if tensor.requires_grad]
    with torch.no_grad():
        cotangent = torch.randn_like(function(*inputs))

    def call() -> None:
        if backward:
            torch.autograd.grad(function(*inputs), wanted, cotangent)
        else:
            with torch.no_grad():
                function(*inputs)

    return median(call, seconds)


def median(call: Callable[[], object], seconds: float, least: int = LEAST) -> float:
    """Milliseconds of a call: the median of those that fit into `seconds`, and of no fewer than `least`."""
    taken: list[float] = []
    while len(taken) < least or sum(taken) < seconds:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)
