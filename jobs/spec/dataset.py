"""The YAML of kind `dataset`: data that exists already, read, checked and published as an Arrow dataset."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_STRICT = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SourceSpec(BaseModel):
    """Which reader, and what it is told (`jobs.ingest.readers` lists both)."""

    model_config = _STRICT

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class RandomSplit(BaseModel):
    """Rows are shuffled by the seed; images keep the share of each label.

    Below 1 a fraction of the rows, from 1 on a number of rows.
    """

    model_config = _STRICT

    by: Literal["random"] = "random"
    valid: float = Field(default=0.1, ge=0)
    test: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _fractions_or_counts(self) -> Self:
        for name in ("valid", "test"):
            share = getattr(self, name)
            if share >= 1 and share != int(share):
                raise ValueError(f"{name} is {share}: give a fraction below 1 or a whole number of rows")
        if max(self.valid, self.test) < 1 and self.valid + self.test >= 1:
            raise ValueError("valid and test together leave nothing to train on")
        return self


class DatasetSpec(BaseModel):
    """A dataset made from files (or from data bundled with a library)."""

    model_config = _STRICT

    spec_version: Literal[1] = 1
    kind: Literal["dataset"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    source: SourceSpec
    split: RandomSplit = RandomSplit()
    publish_as: str | None = Field(default=None, alias="as", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

    @property
    def dataset_name(self) -> str:
        """The name the dataset is published under."""
        return self.publish_as or self.name
