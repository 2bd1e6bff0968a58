"""What strategies.py trains: a potential with forces, a diffusion transformer; and plain torch, to compare with.

A step has the same batch on any number of ranks, and each rank takes its share of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from two_phase_cases import Size, batch_of, model_of

from equimodels.models.diffusion_transformer import DiffusionTransformer, DiffusionTransformerConfig
from equimodels.objectives.energy_force import EnergyForce, EnergyForceConfig
from jobs.spec.train import TrainSpec
from jobs.strategy.build import make_engine
from jobs.strategy.engine import Engine
from jobs.world import World

ADAMW: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.01, "betas": (0.9, 0.999)}
CLIPPING = 1.0
CHANNELS, SIDE = 1, 16
TRANSFORMER = DiffusionTransformerConfig(dim=256, layers=6, patch=4)
SMALL_TRANSFORMER = DiffusionTransformerConfig(dim=64, layers=4, patch=4)
LINEAR = F.linear


@dataclass(frozen=True)
class Potential:
    """Energies and forces of a potential; size: of one rank's share."""

    size: Size
    ranks: int
    name: str = "potential"

    @property
    def samples(self) -> int:
        """Structures of a step."""
        return self.ranks * self.size.structures

    def model(self) -> nn.Module:
        """The same weights whenever it is called."""
        return model_of(self.size)

    def loss(self, forward: Callable[..., Any], step: int, share: slice, device: torch.device) -> Tensor:
        """Of a share of the batch of a step."""
        batch = batch_of(replace(self.size, structures=self.samples), step, share).to(device)
        return EnergyForce(EnergyForceConfig())(forward, batch)[0]


@dataclass(frozen=True)
class Transformer:
    """Denoising, without second derivatives; images: of one rank's share."""

    config: DiffusionTransformerConfig
    images: int
    ranks: int
    name: str = "diffusion transformer"

    @property
    def samples(self) -> int:
        """Images of a step."""
        return self.ranks * self.images

    def model(self) -> nn.Module:
        """The same weights whenever it is called; none are zero."""
        torch.manual_seed(0)
        images = np.random.default_rng(0).random((4, CHANNELS, SIDE, SIDE), dtype=np.float32)
        facts = DiffusionTransformer.gather_facts(self.config, images)
        model = DiffusionTransformer.build(self.config, {}, facts)
        model.redraw_zero_init()
        return model.train()

    def loss(self, forward: Callable[..., Any], step: int, share: slice, device: torch.device) -> Tensor:
        """Of a share of the batch of a step."""
        source = torch.Generator().manual_seed(step)
        x = torch.randn(self.samples, CHANNELS, SIDE, SIDE, generator=source)[share].to(device)
        t = torch.rand(self.samples, generator=source)[share].to(device)
        velocity: Tensor = forward(x, t)
        return (velocity - x.flip(2)).square().mean()


Task = Potential | Transformer


class Plain:
    """torch as anyone writes it: AdamW and clipping around a model, or around DistributedDataParallel."""

    def __init__(self, model: nn.Module, *, parallel: bool) -> None:
        self.module = model
        self.forward = DistributedDataParallel(model) if parallel else model
        self.optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss."""
        loss.backward()

    def step(self, lr: float) -> None:
        """An optimizer step."""
        clip_grad_norm_(self.module.parameters(), CLIPPING)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()


def engine_of(task: Task, strategy: dict[str, Any], world: World, device: torch.device) -> Engine:
    """As a worker makes it."""
    spec = {
        "spec_version": 1,
        "kind": "train",
        "name": "strategies",
        "data": {"uri": "datasets/none@1", "batch": {"samples": task.samples}},
        "model": {"name": "none"},
        "objective": {"name": "none"},
        "optimizer": {"params": ADAMW},
        "strategy": {"gradient_clipping": CLIPPING, **strategy},
        "resources": {"workers": world.size},
    }
    return make_engine(task.model().to(device), TrainSpec.model_validate(spec), world, device)


class Trainer:
    """Takes steps of a task on a rank's shares of the batches.

    DeepSpeed's stage 3 puts a linear function of its own in the place of torch's, for the rest of the process. Here it
    is there only for the engine that brought it.
    """

    def __init__(self, make: Callable[[], Engine | Plain], task: Task, world: World, device: torch.device) -> None:
        with mock.patch.object(F, "linear", LINEAR):
            self.engine: Any = make()
            self._linear = F.linear
        self._task, self._device = task, device
        self._each = task.samples // world.size
        self._share = slice(world.rank * self._each, (world.rank + 1) * self._each)

    def take(self, step: int, lr: float = ADAMW["lr"], parts: int = 1) -> None:
        """Step number `step`. parts: of the share, one after the other, for plain torch."""
        size = self._each // parts
        with mock.patch.object(F, "linear", self._linear):
            for start in range(self._share.start, self._share.stop, size):
                loss = self._task.loss(self.engine.forward, step, slice(start, start + size), self._device)
                self.engine.backward(loss / parts)
            self.engine.step(lr)
