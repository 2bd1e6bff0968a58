"""The two-phase step: a loss on forces reaches the parameters without a second backward pass through the first one.

With the energy E(x) of the positions x, forces F = -dE/dx, and the derivatives g_E and g_F of the loss by both,

    dl/dtheta = d/dtheta (g_E . E(x) + JVP_x(E; -g_F)),

because g_F . F is minus the derivative of E along g_F. The first phase finds E and F and forgets how; the second finds
E and its rate of change along -g_F together, by dual numbers, and one ordinary backward pass follows. It is exact.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from equimodels.models.gaunt_potential import EnergyForces
from jobs.state.piece import Find, Piece, Pieces, Slots
from jobs.strategy.dual import Pair, carried
from jobs.strategy.engine import Engine


def two_phase(engine: Engine, model: nn.Module) -> Engine:
    """An engine that takes the steps of `engine` in two phases; `model`, which it runs, is changed in place.

    The model is called as model(graph, False) for the energies alone, an `EnergyForces`, and they are differentiable by
    `graph.positions`, backward and forward.
    """
    model.forward = carried(model.forward)
    return TwoPhaseEngine(engine)


class TwoPhaseEngine:
    """Predictions from a first phase; a second phase when the loss is known. All else is the engine's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dtype = next(p.dtype for p in engine.module.parameters())
        self._waiting: list[tuple[Any, EnergyForces]] = []  # graphs and predictions whose loss is not known yet

    @property
    def module(self) -> nn.Module:
        return self._engine.module

    def forward(self, graph: Any) -> EnergyForces:
        """Energies and forces, leaves of whatever is computed from them."""
        training = self.module.training and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            graph = graph.usable_by_autograd()
            positions = graph.positions.detach().to(self._dtype).requires_grad_()
            energy = self._engine.forward(replace(graph, positions=positions), False).energy
            (gradient,) = torch.autograd.grad(energy.sum(), positions)
            found = EnergyForces(energy.detach(), -gradient)
        if training:
            found = EnergyForces(*(leaf.requires_grad_() for leaf in found))
            self._waiting.append((graph, found))
        return found

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        waiting, self._waiting = self._waiting, []
        gradients = iter(torch.autograd.grad(loss, [leaf for _, found in waiting for leaf in found], allow_unused=True))
        terms = [self._second(graph, next(gradients), next(gradients)) for graph, _ in waiting]
        self._engine.backward(torch.stack(terms).sum(), last=last)

    def _second(self, graph: Any, by_energy: Tensor | None, by_forces: Tensor | None) -> Tensor:
        """What has the gradient of the loss by the parameters: g_E . E and the rate of E along -g_F."""
        positions = graph.positions.detach().to(self._dtype)
        along = torch.zeros_like(positions) if by_forces is None else -by_forces
        energy, rate = self._engine.forward(replace(graph, positions=Pair(positions, along)), False).energy
        changing: Tensor = rate.sum()
        return changing if by_energy is None else changing + (by_energy * energy).sum()

    def step(self, lr: float, *, limit: float = math.inf) -> float:
        self._waiting.clear()
        return self._engine.step(lr, limit=limit)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._engine.shapes()

    def values(self) -> Pieces:
        return self._engine.values()

    def moments(self) -> Slots:
        return self._engine.moments()

    def counters(self) -> dict[str, int]:
        return self._engine.counters()

    def install(self, values: Mapping[str, Piece]) -> None:
        self._engine.install(values)

    def load(self, find: Find, counters: Mapping[str, int]) -> None:
        self._engine.load(find, counters)
