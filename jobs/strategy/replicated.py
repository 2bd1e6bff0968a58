"""Everything on every worker: plain torch in one process, DistributedDataParallel in several.

In one process it is the reference that every other strategy must agree with.
"""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from jobs.spec.train import TrainSpec
from jobs.state.piece import Find, Piece, Pieces, Slots
from jobs.strategy.optimizers import build_optimizer
from jobs.strategy.precision import autocast
from jobs.strategy.replicated_state import ReplicatedState
from jobs.training.guard import taken
from jobs.world import World


class ReplicatedEngine:
    """A whole copy of model and optimizer on each rank; gradients are averaged while the backward pass runs."""

    def __init__(self, model: nn.Module, spec: TrainSpec, world: World, device: torch.device) -> None:
        self.module = model
        self._strategy, self._device = spec.strategy, device
        self._micro_batches, self._seen, self._steps = spec.accumulation(world.size), 0, 0
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = build_optimizer(self._parameters, spec.optimizer)
        self._state = ReplicatedState(model, self._optimizer, world)
        self._parallel = _parallel(model) if world.size > 1 else None

    def forward(self, *inputs: Any) -> Any:
        with autocast(self._strategy, self._device), contextlib.ExitStack() as stack:
            if self._parallel is None or not self.module.training:
                return self.module(*inputs)
            if self._seen + 1 < self._micro_batches:
                stack.enter_context(self._parallel.no_sync())
            return self._parallel(*inputs)

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        self._seen += 1
        if last != (self._seen == self._micro_batches):
            raise ValueError(f"micro-batch {self._seen} of {self._micro_batches}, and last is {last}")
        torch.autograd.backward([loss / self._micro_batches])

    def step(self, lr: float, *, limit: float = math.inf) -> float:
        for p in self._parameters:
            if p.grad is None:  # sharded strategies, too, see zeros for what the loss does not reach
                p.grad = torch.zeros_like(p)
        total = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        norm = float(total)
        if taken(norm, limit):
            clip_grads_with_norm_(self._parameters, self._strategy.gradient_clipping, total)
            for group in self._optimizer.param_groups:
                group["lr"] = lr
            self._optimizer.step()
            self._steps += 1
        self._optimizer.zero_grad(set_to_none=True)
        self._seen = 0
        return norm

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._state.shapes()

    def values(self) -> Pieces:
        return self._state.values()

    def moments(self) -> Slots:
        return self._state.moments()

    def counters(self) -> dict[str, int]:
        return {"steps": self._steps}

    def install(self, values: Mapping[str, Piece]) -> None:
        self._state.install(values)

    def load(self, find: Find, counters: Mapping[str, int]) -> None:
        self._steps = counters["steps"]
        self._state.load(find, self._steps)


def _parallel(model: nn.Module) -> DistributedDataParallel:
    # A parameter without numbers, as a potential of one layer has, gets no gradient, and would be waited for. One of
    # the outermost module is named with a dot in one place of torch, and without in another.
    empty = [name for name, p in model.named_parameters() if not p.numel()]
    ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(model, [*empty, *("." + name for name in empty)])
    # Buffers are facts and alike everywhere.
    return DistributedDataParallel(model, forward_sync_buffers=False, gradient_as_bucket_view=True)
