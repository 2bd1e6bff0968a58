"""The YAML of kind `evaluate`: a published model or a running endpoint against a split of a dataset."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from jobs.spec.frozen import Frozen
from jobs.spec.paths import below_spec

StructureMetric = Literal["energy_mae_per_atom", "force_mae", "rotation"]
ImageMetric = Literal["linear_probe", "knn"]


class EvaluationData(Frozen):
    """Which rows are predicted."""

    uri: str  # "datasets/ethanol-xtb@1"
    split: Literal["train", "valid", "test"] = "test"
    limit: int | None = Field(default=None, ge=1, description="at most this many rows, from the front")


class EvaluateSpec(Frozen):
    """What is predicted with what, and which figures are wanted. Without `metrics`: all that fit the data."""

    spec_version: Literal[1] = 1
    kind: Literal["evaluate"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    data: EvaluationData
    model: str | None = None  # "ethanol@prod", read from the registry and run here
    endpoint: str | None = None  # a deployed endpoint's name, or its http(s) address
    token_file: str | None = None  # bearer token of the endpoint, the first line of the file
    metrics: tuple[StructureMetric | ImageMetric, ...] = ()
    baseline: bool = True  # the same figures for a predictor that learned nothing, beside the model's
    batch: int = Field(default=32, ge=1)  # rows a call
    rotations: int = Field(default=8, ge=1)  # structures turned for the metric "rotation"

    @field_validator("token_file")
    @classmethod
    def _absolute(cls, value: str | None, info: ValidationInfo) -> Any:
        return below_spec(value, info)

    @model_validator(mode="after")
    def _one_predictor(self) -> Self:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("give exactly one of 'model' and 'endpoint'")
        if self.token_file is not None and self.endpoint is None:
            raise ValueError("token_file belongs to an endpoint; allowed: beside 'endpoint' only")
        return self

    def wants(self, metric: StructureMetric | ImageMetric) -> bool:
        """Whether this figure is to be computed."""
        return not self.metrics or metric in self.metrics
