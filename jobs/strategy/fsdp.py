"""FSDP2 (`torch.distributed.fsdp.fully_shard`): parameters, gradients and the optimizer's state in shards of rows.

A unit is what is gathered at a time: the whole model, or each of its blocks (then the rest is a unit, too).
Zhao et al. 2023 (PyTorch FSDP), Rajbhandari et al. 2020 (ZeRO-3).
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from jobs.spec.train import TrainSpec
from jobs.state.piece import VALUE, Find, Piece, Pieces, Slots
from jobs.strategy.dual import carried, pairs_at_hooks
from jobs.strategy.flattened import lay_flat
from jobs.strategy.optimizers import build_optimizer, fill, fresh_state, moments_in
from jobs.strategy.precision import autocast
from jobs.strategy.recompute import blocks
from jobs.training.guard import taken
from jobs.world import World


@dataclass(frozen=True)
class Shard:
    """A rank's rows of a parameter: the parameter as FSDP knows it, its rows, and where they start when flattened.

    The optimizer works on the rows, plain tensors: on DTensors each operation costs tens of microseconds more.
    """

    whole: nn.Parameter
    rows: nn.Parameter
    start: int

    @classmethod
    def of(cls, parameter: nn.Parameter, world: World) -> "Shard":
        """This rank's; the rows share their memory with FSDP."""
        if not isinstance(parameter, DTensor):
            return cls(parameter, parameter, 0)
        rows = nn.Parameter(parameter.to_local().detach())
        each = -(-parameter.shape[0] // world.size)  # as torch.chunk divides them
        before = min(world.rank * each, parameter.shape[0])
        return cls(parameter, rows, before * math.prod(parameter.shape[1:]))

    def gradient(self) -> Tensor:
        """Of the rows; zero for what the loss does not reach."""
        found = self.whole.grad
        if found is None:
            return torch.zeros_like(self.rows)
        return found.to_local() if isinstance(found, DTensor) else found

    def piece(self, values: Tensor) -> Piece:
        """A tensor like the rows as a part of the state."""
        return Piece(self.start, values.detach().view(-1))


class FsdpEngine:
    """A model in shards on each rank. In one process there is nothing to divide, and FSDP is left out."""

    def __init__(self, model: nn.Module, spec: TrainSpec, world: World, device: torch.device) -> None:
        self.module = model
        self._strategy, self._device, self._world = spec.strategy, device, world
        self._micro_batches, self._steps = spec.accumulation(world.size), 0
        self._shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
        if world.size > 1:
            _divide(model, spec, world, device)
        self._units = [unit for unit in model.modules() if isinstance(unit, FSDPModule)]
        self._shards = {name: Shard.of(p, world) for name, p in model.named_parameters() if p.requires_grad}
        self._held = {name: shard for name, shard in self._shards.items() if shard.rows.numel()}
        self._optimizer = build_optimizer([shard.rows for shard in self._held.values()], spec.optimizer)
        self._reduce(False)

    def forward(self, *inputs: Any) -> Any:
        with autocast(self._strategy, self._device):
            return self.module(*inputs)

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        self._reduce(last)
        torch.autograd.backward([loss / self._micro_batches])
        self._reduce(False)

    @torch.no_grad()
    def step(self, lr: float, *, limit: float = math.inf) -> float:
        rows = []
        for shard in self._shards.values():
            gradient = shard.gradient()
            shard.whole.grad = None
            if shard.rows.numel():
                shard.rows.grad = gradient
                rows.append(shard.rows)
        total = self._norm([p.grad for p in rows if p.grad is not None])
        norm = float(total)
        if taken(norm, limit):
            clip_grads_with_norm_(rows, self._strategy.gradient_clipping, total)
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
            self._steps += 1
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self._shapes)

    def values(self) -> Pieces:
        return {name: shard.piece(shard.rows) for name, shard in self._held.items()}

    def moments(self) -> Slots:
        found: Slots = {}
        for name, shard in self._held.items():
            for slot, values in moments_in(self._optimizer.state.get(shard.rows, {})).items():
                found.setdefault(slot, {})[name] = shard.piece(values)
        return found

    def counters(self) -> dict[str, int]:
        return {"steps": self._steps}

    @torch.no_grad()
    def install(self, values: Mapping[str, Piece]) -> None:
        for name, shard in self._held.items():
            shard.rows.view(-1).copy_(values[name].values)
        self._forget_gathered()

    @torch.no_grad()
    def load(self, find: Find, counters: Mapping[str, int]) -> None:
        self._steps = counters["steps"]
        self._optimizer.state.clear()
        groups = {p: group for group in self._optimizer.param_groups for p in group["params"]}
        for name, shard in self._held.items():
            if self._steps:
                self._optimizer.state[shard.rows] = fresh_state(groups[shard.rows], shard.rows, self._steps)
            moments = moments_in(self._optimizer.state.get(shard.rows, {}))
            fill({slot: shard.piece(values) for slot, values in {VALUE: shard.rows, **moments}.items()}, name, find)
        self._forget_gathered()

    def _norm(self, gradients: Iterable[Tensor]) -> Tensor:
        """Of the gradients of all ranks."""
        own = get_total_norm(gradients)
        if self._world.size == 1:
            return own
        square = own.to(self._device).square()
        dist.all_reduce(square)
        return square.sqrt()

    def _reduce(self, now: bool) -> None:
        """Whether the next backward pass is the last of a step, whose end averages the gradients over the ranks.

        A whole model that was gathered stays so until then.
        """
        for unit in self._units:
            unit.set_requires_gradient_sync(now, recurse=False)
            if self._strategy.units == "root":
                unit.set_reshard_after_backward(now, recurse=False)

    def _forget_gathered(self) -> None:
        """Parameters that are still gathered from a forward pass without a backward one are out of date."""
        for unit in self._units:
            unit.reshard()


def _divide(model: nn.Module, spec: TrainSpec, world: World, device: torch.device) -> None:
    """Make units, in place."""
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")  # of a dual number
    lay_flat(model, world.size)
    mesh = init_device_mesh(device.type, (world.size,))
    for block in blocks(model) if spec.strategy.units == "blocks" else []:
        block.forward = carried(block.forward)
        fully_shard(block, mesh=mesh)
        pairs_at_hooks(block)
    fully_shard(model, mesh=mesh)
