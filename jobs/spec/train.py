"""The spec of a training run (`kind: train`)."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from equimodels.presets import PRESETS
from jobs.spec.frozen import Component, Frozen
from jobs.spec.optimizer import AdamW, Optimizer, Schedule
from jobs.spec.strategy import Checkpoint, Failure, Guard, Resources, Strategy


class Batch(Frozen):
    """What a step sees: a number of samples, all its micro-batches together, or a budget that each of them fills.

    A budget suits structures of different sizes: a micro-batch has as many as stay within every limit that is given.
    """

    structures: PositiveInt | None = None
    images: PositiveInt | None = None
    samples: PositiveInt | None = None
    atoms: PositiveInt | None = Field(default=None, description="most atoms of a micro-batch")
    edges: PositiveInt | None = Field(default=None, description="most edges of a micro-batch, within the cutoff")

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


class Publish(Frozen):
    """Where the best weights go, and by which metric they are best."""

    as_: str = Field(alias="as", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    alias: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9._-]*$")
    metric: str = "valid/loss"
    mode: Literal["min", "max"] = "min"


class Model(Component):
    """A registered model: its settings, those of a preset where it names one and gives no other."""

    preset: str | None = Field(default=None, description="a size of the model, such as S, M or L")

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("preset") is None:
            return data
        name, preset, params = data.get("name"), data["preset"], data.get("params") or {}
        sizes = PRESETS.get(name, {}) if isinstance(name, str) else {}
        if preset not in sizes:
            raise ValueError(f"{name} has no preset {preset!r}; it has {', '.join(sizes) or 'none'}")
        return {**data, "params": {**sizes[preset], **params}} if isinstance(params, Mapping) else data


class TrainSpec(Frozen):
    """A training run, whole: data, model, objective, optimizer, schedule, strategy, resources."""

    spec_version: Literal[1]
    kind: Literal["train"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    seed: int = Field(default=0, ge=0, lt=2**32)
    data: Data
    model: Model
    embedding: dict[str, Component] = Field(default_factory=dict)
    objective: Component
    optimizer: Optimizer = Field(default_factory=AdamW)
    schedule: Schedule = Field(default_factory=Schedule)
    strategy: Strategy = Field(default_factory=Strategy)
    guard: Guard = Field(default_factory=Guard)
    deterministic: bool = Field(default=False, description="only operations that repeat themselves bit by bit")
    resources: Resources = Field(default_factory=Resources)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    failure: Failure = Field(default_factory=Failure)
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    publish: Publish | None = None

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        counted, shares = self.data.batch.counted, self.resources.most * self.strategy.accumulate
        if (counted or 0) % shares:
            raise ValueError(
                f"the global batch of {counted} cannot be shared by {self.resources.most} workers"
                + (f" with {self.strategy.accumulate} micro-batches each" if self.strategy.accumulate > 1 else "")
                + "; make data.batch a multiple of resources.workers"
                + (" times strategy.accumulate" if self.strategy.accumulate > 1 else "")
            )
        if self.strategy.kind == "single" and self.resources.most != 1:
            raise ValueError("strategy.kind single runs in one process; set resources.workers to 1 or use ddp")
        return self

    @property
    def selected_by(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that picks the best weights, and which of its values is the best."""
        return (self.publish.metric, self.publish.mode) if self.publish else ("valid/loss", "min")

    def accumulation(self, workers: int) -> int:
        """Micro-batches of a step on so many workers: as many in all as on the largest number of them.

        So a step sees the same micro-batches, and gives the same gradient, on any number of workers.
        Raises ValueError where they cannot be shared evenly.
        """
        shares = self.resources.most * self.strategy.accumulate
        if shares % workers:
            raise ValueError(f"{shares} micro-batches cannot be shared by {workers} workers")
        return shares // workers

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
