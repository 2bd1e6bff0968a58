"""Metrics over a split, shared by the ranks, in lock-step: every rank calls the model equally often.

Sharded models gather parameters inside forward, so a rank that has no batch left must call it all the same: it repeats
its last batch, or borrows another rank's where it never had one, and does not count it.
"""

from typing import Any

import torch
from torch import Tensor

from jobs.data.batches import Batches
from jobs.spec.train import TrainSpec
from jobs.strategy.engine import Engine
from jobs.training.seeding import EVALUATION, draws
from jobs.world import World


@torch.no_grad()
def evaluate(
    engine: Engine, objective: Any, batches: Batches, spec: TrainSpec, world: World, device: torch.device
) -> dict[str, float]:
    """Metrics over one epoch of `batches`; the same on every rank, and for any number of ranks up to rounding."""
    engine.module.eval()
    totals: dict[str, Tensor] = {}
    iterator, number = iter(batches), 0
    last: Any = None
    while world.any((batch := next(iterator, None)) is not None):
        if number == 0 and world.any(batch is None):
            last = next(one for one in world.gather(batch) if one is not None)
        last = last if batch is None else batch
        generator = draws(spec.seed, number * world.size + world.rank, 0, EVALUATION)
        found = objective.evaluate(engine.forward, last.to(device), generator)
        if batch is not None:
            for name, value in found.items():
                totals[name] = totals.get(name, torch.zeros(2, dtype=torch.float64)) + value.double().cpu()
        number += 1
    # A rank without a batch has no names yet: all must reduce the same ones.
    names = sorted(set().union(*world.gather(sorted(totals))))
    summed = world.sum({name: totals.get(name, torch.zeros(2, dtype=torch.float64)) for name in names})
    return {name: float(value[0] / value[1]) for name, value in summed.items()}
