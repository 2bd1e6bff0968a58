"""The training state where every rank holds all of it: each parameter is reported by one rank, whole."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from jobs.state.piece import VALUE, Find, Piece, Pieces, Slots
from jobs.strategy.optimizers import fresh_state, moments_in
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
            for slot, value in moments_in(self._optimizer.state.get(p, {})).items():
                found.setdefault(slot, {})[name] = Piece(0, value.view(-1))
        return found

    @torch.no_grad()
    def install(self, values: Mapping[str, Piece]) -> None:
        """Set the parameters, each from the rank that speaks for it. A collective."""
        for name, p in self._own().items():
            p.copy_(values[name].values.view_as(p))
        self._share(self._parameters)

    @torch.no_grad()
    def load(self, find: Find, steps: int) -> None:
        """Parameters, and moments after `steps` steps, from a saved state. A collective.

        A rank reads what it speaks for: the store is asked for each number once, not by all ranks.
        """
        self._optimizer.state.clear()
        slots: dict[str, dict[str, Tensor]] = {VALUE: dict(self._parameters)}
        if steps:
            names = {p: name for name, p in self._parameters.items()}
            for group in self._optimizer.param_groups:
                for p in group["params"]:
                    state = self._optimizer.state[p] = fresh_state(group, p, steps)
                    for slot, moment in moments_in(state).items():
                        slots.setdefault(slot, {})[names[p]] = moment
        own = self._own()
        for slot, tensors in slots.items():
            for name in [name for name in tensors if name in own]:
                tensors[name].copy_(find(slot, name, 0, tensors[name].numel()).view_as(tensors[name]))
            self._share(tensors)

    def _own(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._parameters.items() if self._owners[name] == self._world.rank}

    def _share(self, tensors: Mapping[str, Tensor]) -> None:
        """Give all ranks each parameter's tensor as it is on the rank that speaks for the parameter. A collective."""
        if self._world.size > 1:
            for rank in range(self._world.size):
                _broadcast([tensor for name, tensor in tensors.items() if self._owners[name] == rank], rank)


def _broadcast(tensors: list[Tensor], rank: int) -> None:
    """One message a data type, not one a tensor."""
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        kind = [tensor for tensor in tensors if tensor.dtype == dtype]
        packed = torch.cat([tensor.reshape(-1) for tensor in kind])
        dist.broadcast(packed, src=rank)
        for tensor, part in zip(kind, torch.split(packed, [tensor.numel() for tensor in kind]), strict=True):
            tensor.copy_(part.view_as(tensor))
