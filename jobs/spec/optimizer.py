"""Optimizer and schedule of a training spec."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from jobs.spec.frozen import Frozen


class AdamWParams(Frozen):
    """Settings of AdamW; `lr` is the peak of the schedule."""

    lr: PositiveFloat = 3.0e-3
    weight_decay: float = Field(default=1.0e-6, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)


class AdamW(Frozen):
    """AdamW (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    params: AdamWParams = Field(default_factory=AdamWParams)


class MuonParams(Frozen):
    """Settings of Muon; `lr` is the peak of the schedule for both kinds of parameters."""

    lr: PositiveFloat = 3.0e-3
    weight_decay: float = Field(default=1.0e-6, ge=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    nesterov: bool = True
    iterations: PositiveInt = Field(default=5, description="Newton-Schulz iterations")
    betas: tuple[float, float] = Field(
        default=(0.9, 0.999), description="of AdamW, for parameters that are no matrices"
    )


class Muon(Frozen):
    """Muon (Jordan et al. 2024) for matrices, AdamW for everything else."""

    name: Literal["muon"]
    params: MuonParams = Field(default_factory=MuonParams)


def _named(given: Any) -> Any:
    """AdamW where no name is given."""
    return {"name": "adamw", **given} if isinstance(given, dict) else given


Optimizer = Annotated[AdamW | Muon, Field(discriminator="name"), BeforeValidator(_named)]


class EarlyStop(Frozen):
    """End the run when the metric that picks the best weights has not improved for so many evaluations."""

    patience: PositiveInt
    min_delta: float = Field(default=0.0, ge=0)


class Schedule(Frozen):
    """Length of the run in optimizer steps and the learning rate along it: linear warm-up, then `decay`."""

    steps: PositiveInt = 2000
    warmup: int = Field(default=100, ge=0)
    decay: Literal["cosine", "constant", "wsd"] = "cosine"
    final_lr: float = Field(default=0.01, ge=0, le=1, description="where the decay ends, in parts of the peak")
    cooldown: float = Field(default=0.2, gt=0, le=1, description="wsd: the share of the steps at the end that decays")
    eval_every: PositiveInt = 200
    ema: float = Field(default=0.99, ge=0, lt=1, description="decay of the averaged weights; 0 switches them off")
    posthoc_ema: tuple[Annotated[float, Field(gt=0, le=0.28)], ...] = Field(
        default=(), description="relative widths of power-function averages that are kept beside: 0.05, 0.1"
    )
    early_stop: EarlyStop | None = None
