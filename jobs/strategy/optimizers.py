"""The optimizer of a spec: AdamW for everything, or Muon for matrices and AdamW for the rest, as one object."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from jobs.spec.optimizer import Muon as MuonSettings
from jobs.spec.optimizer import Optimizer as OptimizerSettings
from jobs.state.piece import Find, Piece

ADAM, MUON = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)


class MuonAndAdamW(Optimizer):
    """Muon (Jordan et al. 2024) on parameters with two dimensions, AdamW on all others; they share one state.

    An update of Muon is scaled to the root mean square of one of AdamW (Liu et al. 2025, arXiv 2502.16982), so that
    both kinds of parameters are served by the same learning rate and weight decay.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], settings: MuonSettings) -> None:
        every, params = list(parameters), settings.params
        self._parts: list[Optimizer] = []
        matrices, others = [p for p in every if p.ndim == 2], [p for p in every if p.ndim != 2]
        if matrices:
            muon = Muon(
                matrices,
                lr=params.lr,
                weight_decay=params.weight_decay,
                momentum=params.momentum,
                nesterov=params.nesterov,
                ns_steps=params.iterations,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts.append(muon)
        if others:
            self._parts.append(AdamW(others, lr=params.lr, weight_decay=params.weight_decay, betas=params.betas))
        super().__init__(every, {"lr": params.lr})
        # The groups and the state are the parts' own objects: what is set here, they see.
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        for part in self._parts:
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both. closure: as in torch, evaluated first."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss


def build_optimizer(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> Optimizer:
    """The optimizer of a spec over trained parameters."""
    if isinstance(settings, MuonSettings):
        return MuonAndAdamW(parameters, settings)
    params = settings.params
    return AdamW(parameters, lr=params.lr, weight_decay=params.weight_decay, betas=params.betas)


def moments_of(group: dict[str, Any]) -> tuple[str, ...]:
    """Names of the moments that the parameters of a group get."""
    return MUON if "momentum" in group else ADAM


def moments_in(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moments of a parameter in its state of a torch optimizer, which holds the number of steps besides."""
    return {slot: values for slot, values in state.items() if slot != "step"}


def fill(pieces: Mapping[str, Piece], parameter: str, find: Find) -> None:
    """Read one parameter's pieces, by slot, from a saved state."""
    for slot, piece in pieces.items():
        piece.values.copy_(find(slot, parameter, piece.start, piece.stop))


def fresh_state(group: dict[str, Any], parameter: Tensor, steps: int) -> dict[str, Tensor]:
    """The state of a parameter after so many steps, with moments of zero to be filled."""
    state = {slot: torch.zeros_like(parameter, requires_grad=False) for slot in moments_of(group)}
    if "exp_avg" in state:
        # As AdamW makes it: a float32 on the CPU.
        state["step"] = torch.tensor(float(steps), dtype=torch.float32)
    return state
