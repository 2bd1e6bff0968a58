"""The spec of a sweep (`kind: sweep`): a training spec, a space over it, a scheduler and a budget."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from jobs.spec.frozen import Frozen
from jobs.spec.train import TrainSpec


class Dimension(Frozen):
    """One searched setting. Exactly one of the fields is given; ranges are inclusive."""

    choice: tuple[Any, ...] | None = Field(default=None, min_length=1)
    integers: tuple[int, int] | None = Field(default=None, alias="int")
    uniform: tuple[float, float] | None = None
    loguniform: tuple[PositiveFloat, PositiveFloat] | None = None

    @model_validator(mode="after")
    def _one_kind_in_order(self) -> Self:
        ranges = [ends for ends in (self.integers, self.uniform, self.loguniform) if ends is not None]
        if len(ranges) + (self.choice is not None) != 1:
            raise ValueError("give exactly one of choice, int, uniform, loguniform")
        if ranges and not ranges[0][0] < ranges[0][1]:
            raise ValueError("a range is [low, high] with low < high")
        return self

    def value(self, u: float) -> Any:
        """The value at quantile `u` in [0, 1) of the dimension."""
        if self.choice is not None:
            return self.choice[min(int(u * len(self.choice)), len(self.choice) - 1)]
        if self.integers is not None:
            low, high = self.integers
            return low + min(int(u * (high - low + 1)), high - low)
        if self.uniform is not None:
            start, end = self.uniform
            return start + u * (end - start)
        start, end = self.loguniform or (1.0, 1.0)
        return float(start * (end / start) ** u)

    def ends(self) -> tuple[Any, ...]:
        """The values whose validity implies that of the rest: every choice, or both ends of a range."""
        if self.choice is not None:
            return self.choice
        return tuple(self.integers or self.uniform or self.loguniform or ())


class Prior(Frozen):
    """What ranks candidates before any is trained. Only `none` so far."""

    name: Literal["none"] = "none"


class Scheduler(Frozen):
    """Asynchronous successive halving (Li et al. 2020), or every trial to its end."""

    name: Literal["asha", "none"] = "asha"
    grace_steps: PositiveInt = 100
    factor: int = Field(default=3, ge=2)


class Budget(Frozen):
    """When the sweep ends: after `trials`, or after `hours`."""

    trials: int = Field(default=8, ge=1)
    concurrent: PositiveInt = 2
    hours: PositiveFloat = 1.0


class SweepSpec(Frozen):
    """A sweep: every trial is the base spec with the trial's own changes and one point of the space."""

    spec_version: Literal[1]
    kind: Literal["sweep"]
    name: str = Field(default="sweep", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    base: TrainSpec = Field(description="a training spec, or the path of one, relative to this file")
    trial: dict[str, Any] = Field(default_factory=dict, description="changes for every trial: shorter, one worker, ...")
    space: dict[str, Dimension] = Field(min_length=1)
    prior: Prior = Field(default_factory=Prior)
    scheduler: Scheduler = Field(default_factory=Scheduler)
    metric: str = "valid/loss"
    mode: Literal["min", "max"] = "min"
    budget: Budget = Field(default_factory=Budget)

    @field_validator("base", mode="before")
    @classmethod
    def _read_base(cls, value: Any, info: ValidationInfo) -> Any:
        """A path becomes the spec it names, so that a stored sweep needs no second file."""
        if not isinstance(value, str):
            return value
        folder = Path((info.context or {}).get("folder", "."))
        path = folder / value
        try:
            return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"cannot read the base spec {path}: {error.strerror}") from error
        except YAMLError as error:
            raise ValueError(f"the base spec {path} is not YAML: {error}") from error
