"""The YAML of kind `dataset`: data that exists already, read, checked and published as an Arrow dataset."""

from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from jobs.spec.frozen import Component, Frozen
from jobs.spec.paths import below_spec


class Shares(Frozen):
    """How much goes to which split. Below 1 a fraction, from 1 on a number of rows (or of groups).

    random: rows are shuffled by the seed; images keep the share of each label. group: whole groups are, so that
    frames of one trajectory are never on both sides.
    """

    by: Literal["random", "group"] = "random"
    valid: float = Field(default=0.1, ge=0)
    test: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _fractions_or_counts(self) -> Self:
        for name in ("valid", "test"):
            share = getattr(self, name)
            if share >= 1 and share != int(share):
                raise ValueError(f"{name} is {share}; allowed: a fraction below 1 or a whole number of rows")
        if max(self.valid, self.test) < 1 and self.valid + self.test >= 1:
            raise ValueError("valid and test together leave nothing to train on")
        return self


class DatasetSpec(Frozen):
    """A dataset made from files (or from data bundled with a library)."""

    spec_version: Literal[1] = 1
    kind: Literal["dataset"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    source: Component  # a reader of jobs.ingest.readers, and what it is told
    split: Shares = Shares()
    publish_as: str | None = Field(default=None, alias="as", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

    @field_validator("source")
    @classmethod
    def _absolute(cls, value: Component, info: ValidationInfo) -> Component:
        """Every reader calls a setting that names a file `file` or `..._file`."""
        files = {k: below_spec(v, info) for k, v in value.params.items() if k == "file" or k.endswith("_file")}
        return value.model_copy(update={"params": {**value.params, **files}})

    @property
    def dataset_name(self) -> str:
        """The name the dataset is published under."""
        return self.publish_as or self.name
