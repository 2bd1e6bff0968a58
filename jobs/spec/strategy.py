"""How a step is executed, and what happens when it cannot be: the parts of a training spec that are not mathematics."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from jobs.spec.frozen import Frozen


class Strategy(Frozen):
    """How the model and its optimizer are laid out over the workers, and how a step is computed.

    `single` is one process. `ddp` repeats everything on each worker. `deepspeed` shards the state of the optimizer
    (stage 1), also gradients (2), also parameters (3). `fsdp` is FSDP2: all is sharded, and gathered for the whole
    step (`units: root`) or block by block (`units: blocks`).
    """

    kind: Literal["single", "ddp", "deepspeed", "fsdp"] = "deepspeed"
    zero_stage: Literal[0, 1, 2, 3] | None = Field(default=None, description="deepspeed: 1 unless said")
    units: Literal["root", "blocks"] = Field(default="root", description="fsdp: what is gathered at a time")
    force_gradient: Literal["double_backward", "two_phase"] = Field(
        default="double_backward",
        description="how a loss on forces reaches the parameters: a graph of the gradient, or forward over reverse",
    )
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="of the computation; parameters stay fp32")
    tf32: bool = Field(default=False, description="let GPUs round the inputs of fp32 products to 10 bits")
    gradient_clipping: PositiveFloat = 10.0
    accumulate: PositiveInt = Field(default=1, description="micro-batches of a step on the largest number of workers")
    recompute: bool = Field(default=False, description="forget activations of a block, compute them again in backward")
    compile: bool = Field(default=False, description="torch.compile, block by block")
    offload: Literal["none", "cpu"] = Field(default="none", description="deepspeed: where the optimizer's state is")
    deepspeed: dict[str, Any] = Field(
        default_factory=dict, description="more of DeepSpeed's own configuration, as it is"
    )

    @property
    def stage(self) -> int | None:
        """The stage of ZeRO; None under other kinds."""
        if self.kind != "deepspeed":
            return None
        return 1 if self.zero_stage is None else self.zero_stage


class WorkerRange(Frozen):
    """Between so many workers: training starts with what there is, and is resized as nodes come and go.

    A step has as many micro-batches as `max` workers times `strategy.accumulate`, always; only numbers of workers that
    share them evenly train, so a range from 1 to 4 trains on 1, 2 or 4 of them.
    """

    min: PositiveInt
    max: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max {self.max}; min must not be above max")
        return self


class Resources(Frozen):
    """The workers of the run."""

    workers: PositiveInt | WorkerRange = 2
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: int = Field(default=0, ge=0, le=1)

    @property
    def most(self) -> int:
        """The largest number of workers."""
        return self.workers if isinstance(self.workers, int) else self.workers.max

    @property
    def least(self) -> int:
        """The smallest number of workers."""
        return self.workers if isinstance(self.workers, int) else self.workers.min


class Checkpoint(Frozen):
    """When to save, and which checkpoints to keep."""

    every_steps: PositiveInt = 200
    keep_last: PositiveInt = 2
    keep_best: int = Field(default=1, ge=0)
    keep_every: PositiveInt | None = Field(default=None, description="also every checkpoint at a multiple of this step")
    patience: PositiveFloat = Field(default=300.0, description="seconds for which a store that is down is tried again")


class Guard(Frozen):
    """Steps that are left out: the loss is not finite, or the gradients are far above what they have been."""

    spike: float | None = Field(
        default=20.0, gt=1, description="times the median norm of recent steps; null switches it off"
    )
    budget: int = Field(default=10, ge=0, description="steps that may be left out before the run is ended")


class Failure(Frozen):
    """What may happen before a run is given up."""

    max_restarts: int = Field(default=3, ge=0, description="starts of the workers from the newest committed checkpoint")
    collective_timeout: PositiveFloat = Field(
        default=600.0, description="seconds after which a rank that waits gives up"
    )
    grace: PositiveFloat = Field(default=30.0, description="seconds from the notice of a preemption to the end")
    halve_on_out_of_memory: bool = Field(default=False, description="try again with twice the micro-batches a step")
