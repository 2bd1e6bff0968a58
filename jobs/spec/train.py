"""The spec of a training run (`kind: train`)."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from jobs.spec.frozen import Component, Frozen


class Batch(Frozen):
    """What a step sees: a number of samples, all workers together, or a budget that each worker fills.

    A budget suits structures of different sizes: a worker takes as many as stay within every limit that is given.
    """

    structures: PositiveInt | None = None
    images: PositiveInt | None = None
    samples: PositiveInt | None = None
    atoms: PositiveInt | None = Field(default=None, description="most atoms of a worker's batch")
    edges: PositiveInt | None = Field(default=None, description="most edges of a worker's batch, within the cutoff")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        counts = [name for name in COUNTED if getattr(self, name) is not None]
        if self.budgeted == bool(counts):
            raise ValueError(f"give exactly one of {', '.join(COUNTED)}; or atoms, edges or both")
        return self

    @property
    def budgeted(self) -> bool:
        """Whether workers fill a budget rather than count."""
        return self.atoms is not None or self.edges is not None

    @property
    def counted(self) -> int | None:
        """Samples of a step of all workers together; None for a budget."""
        return self.structures or self.images or self.samples


COUNTED = ("structures", "images", "samples")


class Cache(Frozen):
    """Decoded blocks of a remote dataset on the disk of each node, shared by its workers; a folder needs none."""

    gigabytes: PositiveFloat = 10.0
    folder: str | None = Field(default=None, description="by default a folder of the user's in the temporary directory")


class Data(Frozen):
    """Which dataset, and how it is read."""

    uri: str = Field(description="a dataset of the store: datasets/<name>@<version>")
    batch: Batch
    window: PositiveInt = Field(default=8, description="row groups (about 4 MiB each) that are shuffled together")
    cache: Cache | None = Field(default_factory=Cache, description="null switches it off")


class Optimizer(Frozen):
    """AdamW (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    params: "AdamWParams" = Field(default_factory=lambda: AdamWParams())


class AdamWParams(Frozen):
    """Settings of AdamW; `lr` is the peak of the schedule."""

    lr: PositiveFloat = 3.0e-3
    weight_decay: float = Field(default=1.0e-6, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)


class Schedule(Frozen):
    """Length of the run in optimizer steps; warm-up is linear, decay is cosine to `final_lr` times the peak."""

    steps: PositiveInt = 2000
    warmup: int = Field(default=100, ge=0)
    decay: Literal["cosine", "constant"] = "cosine"
    final_lr: float = Field(default=0.01, ge=0, le=1)
    eval_every: PositiveInt = 200
    ema: float = Field(default=0.99, ge=0, lt=1, description="decay of the averaged weights; 0 switches them off")


class Strategy(Frozen):
    """How a step is executed: one process, or DeepSpeed over all workers.

    ZeRO-3 is not on offer: with forces from a second backward pass it fails inside DeepSpeed 0.19.8.
    """

    kind: Literal["single", "deepspeed"] = "deepspeed"
    zero_stage: Literal[0, 1, 2] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_clipping: PositiveFloat = 10.0


class Resources(Frozen):
    """The workers of the run."""

    workers: PositiveInt = 2
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: int = Field(default=0, ge=0)


class Checkpoint(Frozen):
    """When to commit a checkpoint and which ones to keep; the best weights are part of every one."""

    every_steps: PositiveInt = 200
    keep_last: PositiveInt = 2


class Failure(Frozen):
    """How often the workers may be started again, from the newest committed checkpoint."""

    max_restarts: int = Field(default=3, ge=0)


class Publish(Frozen):
    """Where the best weights go, and by which metric they are best."""

    as_: str = Field(alias="as", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    alias: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9._-]*$")
    metric: str = "valid/loss"
    mode: Literal["min", "max"] = "min"


class TrainSpec(Frozen):
    """A training run, whole: data, model, objective, optimizer, schedule, strategy, resources."""

    spec_version: Literal[1]
    kind: Literal["train"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    data: Data
    model: Component
    embedding: dict[str, Component] = Field(default_factory=dict)
    objective: Component
    optimizer: Optimizer = Field(default_factory=Optimizer)
    schedule: Schedule = Field(default_factory=Schedule)
    strategy: Strategy = Field(default_factory=Strategy)
    resources: Resources = Field(default_factory=Resources)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    failure: Failure = Field(default_factory=Failure)
    publish: Publish | None = None

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if (self.data.batch.counted or 0) % self.resources.workers:
            raise ValueError(
                f"the global batch of {self.data.batch.counted} cannot be shared by {self.resources.workers} workers; "
                "make data.batch a multiple of resources.workers"
            )
        if self.strategy.kind == "single" and self.resources.workers != 1:
            raise ValueError("strategy.kind single runs in one process; set resources.workers to 1 or use deepspeed")
        return self

    def with_changes(self, changes: Mapping[str, Any]) -> "TrainSpec":
        """The same spec with dotted paths set to new values, validated again.

        Raises pydantic.ValidationError where the result is not a valid spec.
        """
        data = self.model_dump(mode="json", by_alias=True)
        for path, value in changes.items():
            place = data
            *parents, last = path.split(".")
            for key in parents:
                place = place.setdefault(key, {})
            place[last] = deepcopy(value)
        return TrainSpec.model_validate(data)
