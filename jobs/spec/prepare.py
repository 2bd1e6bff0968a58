"""The YAML of kind `prepare`: a published dataset, and what is done to its rows, in order."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from jobs.spec.frozen import Component, Frozen
from jobs.spec.paths import below_spec

DROP_IDS = "drop_ids"  # the setting of a step that names a file


class PrepareData(Frozen):
    """What is prepared: all splits of one version of a dataset."""

    uri: str  # "datasets/ethanol-xtb@1"; without a version, the latest when the run begins


class PrepareWorkers(Frozen):
    """Processes that share the row groups."""

    number: int | None = Field(default=None, ge=1, description="at a time; without, one a CPU of the cluster")
    gpus: float = Field(default=0, ge=0, description="of each worker; only the step features uses them")


class PrepareSpec(Frozen):
    """Steps are applied to every row group in order. Ids, groups and splits stay as they are."""

    spec_version: Literal[1] = 1
    kind: Literal["prepare"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: PrepareData
    steps: tuple[Component, ...] = Field(min_length=1)  # of jobs.prepare.catalogue
    workers: PrepareWorkers = PrepareWorkers()
    publish_as: str | None = Field(default=None, alias="as", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

    @field_validator("steps")
    @classmethod
    def _absolute(cls, value: tuple[Component, ...], info: ValidationInfo) -> Any:
        return tuple(
            step.model_copy(update={"params": {**step.params, DROP_IDS: below_spec(step.params[DROP_IDS], info)}})
            if isinstance(step.params.get(DROP_IDS), str)
            else step
            for step in value
        )

    @model_validator(mode="after")
    def _statistics_come_last(self) -> Self:
        if any(step.name == "statistics" for step in self.steps[:-1]):
            raise ValueError("steps: 'statistics' publishes nothing that a step could follow; allowed: as the last")
        return self

    @property
    def dataset_name(self) -> str:
        """The name the dataset is published under."""
        return self.publish_as or self.name

    @property
    def publishes(self) -> bool:
        """Whether a version comes out, and not figures alone."""
        return self.steps[-1].name != "statistics"
