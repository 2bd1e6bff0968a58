"""The training state where every rank holds all of it: each parameter is reported by one rank, whole."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from jobs.state.piece import Find, Piece, Pieces, Slots
from jobs.strategy.optimizers import fresh_state, moments_of
from jobs.strategy.owners import owners
from jobs.world import World


class ReplicatedState:
    """Parameters of a module and the state of a torch optimizer over them, alike on all ranks."""

    def __init__(self, module: nn.Module, optimizer: Optimizer, world: World) -> None:
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._optimizer, self._world = optimizer, world
        self._owners = owners({name: p.numel() for name, p in self._parameters.items()}, world.size)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all parameters."""
        return {name: tuple(p.shape) for name, p in self._parameters.items()}

    def values(self) -> Pieces:
        """The parameters that this rank speaks for."""
        return {name: Piece(0, p.detach().view(-1)) for name, p in self._own().items()}

    def moments(self) -> Slots:
        """The optimizer's tensors of the parameters that this rank speaks for."""
        found: Slots = {}
        for name, p in self._own().items():
            for slot, value in self._optimizer.state.get(p, {}).items():
                if slot != "step":
                    found.setdefault(slot, {})[name] = Piece(0, value.view(-1))
        return found

    @torch.no_grad()
    def install(self, values: Mapping[str, Piece]) -> None:
        """Set the parameters, each from the rank that speaks for it. A collective."""
        for name, p in self._own().items():
            p.copy_(values[name].values.view_as(p))
        if self._world.size > 1:
            for rank in range(self._world.size):
                self._broadcast([p for name, p in self._parameters.items() if self._owners[name] == rank], rank)

    @torch.no_grad()
    def load(self, find: Find, steps: int) -> None:
        """Parameters, and moments after `steps` steps, from a saved state; every rank reads all of it."""
        for name, p in self._parameters.items():
            p.copy_(find("value", name, 0, p.numel()).view_as(p))
        self._optimizer.state.clear()
        if not steps:
            return
        names = {p: name for name, p in self._parameters.items()}
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                state = self._optimizer.state[p] = fresh_state(group, p, steps)
                for slot in moments_of(group):
                    state[slot].copy_(find(slot, names[p], 0, p.numel()).view_as(p))

    def _own(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._parameters.items() if self._owners[name] == self._world.rank}

    @staticmethod
    def _broadcast(parameters: list[nn.Parameter], rank: int) -> None:
        """One message a data type, not one a parameter."""
        for dtype in sorted({p.dtype for p in parameters}, key=str):
            kind: list[Tensor] = [p for p in parameters if p.dtype == dtype]
            packed = torch.cat([p.reshape(-1) for p in kind])
            dist.broadcast(packed, src=rank)
            for p, part in zip(kind, torch.split(packed, [p.numel() for p in kind]), strict=True):
                p.copy_(part.view_as(p))
