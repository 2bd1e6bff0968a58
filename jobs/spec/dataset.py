"""The YAML of kind `dataset`: data that exists already, read, checked and published as an Arrow dataset."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from jobs.spec.frozen import Component, Frozen
from jobs.spec.paths import below_spec
from jobs.spec.units import Units

HELD_OUT = "test_"  # a setting of a source that begins so names rows of the test split


class Shares(Frozen):
    """How much goes to which split. Below 1 a fraction, from 1 on a number, of rows, groups or formulas.

    random: rows are shuffled by the seed, each label keeps its share in every split. group: whole groups are, so that
    frames of one trajectory are never on both sides. composition: whole chemical formulas are, for structures; what
    is tested then has a formula that training never saw.
    """

    by: Literal["random", "group", "composition"] = "random"
    valid: float = Field(default=0.1, ge=0)
    test: float = Field(default=0.1, ge=0)  # 0 by itself where the source names the rows to test on
    duplicates: Literal["refuse", "drop", "allow"] = Field(
        default="refuse", description="rows of equal content in two splits; drop: only the copy held out longest stays"
    )

    @model_validator(mode="after")
    def _fractions_or_counts(self) -> Self:
        for name in ("valid", "test"):
            share = getattr(self, name)
            if share >= 1 and share != int(share):
                raise ValueError(f"{name} is {share}; allowed: a fraction below 1 or a whole number of rows")
        if max(self.valid, self.test) < 1 and self.valid + self.test >= 1:
            raise ValueError("valid and test together leave nothing to train on")
        return self


class ReferenceFile(Frozen):
    """Energies of single atoms, in a file of one-atom structures."""

    file: str  # extended XYZ; energies in the unit of the source

    @field_validator("file")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> Any:
        return below_spec(value, info)


class DatasetSpec(Frozen):
    """A dataset made from files (or from data bundled with a library)."""

    spec_version: Literal[1] = 1
    kind: Literal["dataset"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    source: Component  # a source of jobs.ingest.catalogue, and what it is told
    units: Units = Units()
    reference_energies: dict[str, float] | ReferenceFile | None = Field(
        default=None, description="eV of each element's atom, subtracted from the energies, or {file: ...}"
    )
    split: Shares = Shares()
    on_error: Literal["fail", "skip"] = Field(default="fail", description="what a row that cannot be read leads to")
    publish_as: str | None = Field(default=None, alias="as", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

    @field_validator("source")
    @classmethod
    def _absolute(cls, value: Component, info: ValidationInfo) -> Component:
        """Every source calls a setting that names files `file`, `folder`, `..._file` or `..._folder`."""
        params = {k: _absolute_names(v, info) if names_files(k) else v for k, v in value.params.items()}
        return value.model_copy(update={"params": params})

    @model_validator(mode="after")
    def _test_rows_are_given(self) -> Self:
        given = any(k.startswith(HELD_OUT) and v is not None for k, v in self.source.params.items())
        if given and "test" not in self.split.model_fields_set:
            # Frozen for whoever has the spec; here it is still being made.
            object.__setattr__(self, "split", self.split.model_copy(update={"test": 0.0}))
        return self

    @property
    def dataset_name(self) -> str:
        """The name the dataset is published under."""
        return self.publish_as or self.name


def names_files(setting: str) -> bool:
    """Whether a setting of a source names files or a folder."""
    return setting in ("file", "folder") or setting.endswith(("_file", "_folder"))


def _absolute_names(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, list):
        return [below_spec(name, info) for name in value]
    return below_spec(value, info)
