"""The YAML of kind `label`: which structures, which method labels them, and whether they are sampled or given."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from jobs.spec.dataset import Shares
from jobs.spec.frozen import Component, Frozen
from jobs.spec.paths import below_spec


class StructureSource(Frozen):
    """Where the structures come from: one molecule of ASE's collection, every frame of a file, or a dataset.

    Molecular dynamics starts trajectory i from structure i modulo their number.
    """

    molecule: str | None = None  # a formula or name of ase.build.molecule, or a name such as "ethanol"
    file: str | None = None  # anything ase.io reads, relative to the spec; cells are kept where structures repeat
    dataset: str | None = None  # "name@version" of published structures
    split: Literal["train", "valid", "test"] | None = Field(default=None, description="of the dataset; without: all")

    @field_validator("file")
    @classmethod
    def _absolute(cls, value: str | None, info: ValidationInfo) -> Any:
        return below_spec(value, info)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.molecule, self.file, self.dataset].count(None) != 2:
            raise ValueError("give exactly one of 'molecule', 'file' and 'dataset'")
        if self.split is not None and self.dataset is None:
            raise ValueError("split is one of a dataset's; allowed: beside 'dataset' only")
        return self

    @property
    def shown(self) -> str:
        """Its name, for messages."""
        return str(self.molecule or self.file or f"dataset {self.dataset}")


class MolecularDynamics(Frozen):
    """Langevin dynamics at constant temperature; each trajectory has its own random numbers."""

    temperature_K: float = Field(default=300.0, gt=0, description="kelvin")  # noqa: N815  (the unit's symbol)
    trajectories: int = Field(default=4, ge=1)
    frames: int = Field(default=100, ge=1, description="frames kept of each trajectory")
    every_fs: float = Field(default=10.0, gt=0, description="femtoseconds between two kept frames")
    timestep_fs: float = Field(default=0.5, gt=0, le=5, description="femtoseconds; 0.5 resolves an O-H stretch")
    equilibrate_fs: float = Field(default=250.0, ge=0, description="femtoseconds thrown away at the start")
    friction: float = Field(default=0.02, gt=0, description="per femtosecond; 0.02 forgets a velocity in 50 fs")

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        for name in ("every_fs", "equilibrate_fs"):
            steps = getattr(self, name) / self.timestep_fs
            if abs(steps - round(steps)) > 1e-6:
                raise ValueError(f"{name} must be a whole number of time steps of {self.timestep_fs:g} fs")
        return self

    @property
    def steps_between(self) -> int:
        """Time steps from one kept frame to the next."""
        return round(self.every_fs / self.timestep_fs)

    @property
    def steps_before(self) -> int:
        """Time steps before the first kept frame is due."""
        return round(self.equilibrate_fs / self.timestep_fs)


class DynamicsSampling(Frozen):
    """Structures are drawn by molecular dynamics."""

    name: Literal["md"] = "md"
    params: MolecularDynamics = Field(default_factory=MolecularDynamics)


class GivenStructures(Frozen):
    """Nothing is sampled."""

    chunk: int = Field(default=32, ge=1, description="structures a task; what a crash can lose of each worker")


class GivenSampling(Frozen):
    """Every structure of the source is labelled as it is."""

    name: Literal["given"]
    params: GivenStructures = Field(default_factory=GivenStructures)


class TrajectorySplit(Frozen):
    """Whole trajectories go to one split: neighbouring frames never sit on both sides."""

    by: Literal["trajectory"] = "trajectory"
    valid: int = Field(default=1, ge=0, description="trajectories")
    test: int = Field(default=1, ge=0, description="trajectories")


class KeptSplit(Frozen):
    """Every structure stays in the split that it has in its dataset."""

    by: Literal["dataset"]


def _sampling(value: Any) -> Any:
    return value.get("name", "md") if isinstance(value, Mapping) else getattr(value, "name", None)


def _split(value: Any) -> Any:
    by = value.get("by", "trajectory") if isinstance(value, Mapping) else getattr(value, "by", None)
    return by if by in ("trajectory", "dataset") else "shares"


Sampling = Annotated[
    Annotated[DynamicsSampling, Tag("md")] | Annotated[GivenSampling, Tag("given")],
    Discriminator(
        _sampling,
        custom_error_type="unknown_sampling",
        custom_error_message="its name is 'md' (molecular dynamics) or 'given' (every structure as it is)",
    ),
]
Split = Annotated[
    Annotated[TrajectorySplit, Tag("trajectory")]
    | Annotated[KeptSplit, Tag("dataset")]
    | Annotated[Shares, Tag("shares")],
    Discriminator(_split),
]


class LabelSpec(Frozen):
    """Structures with energies (eV), forces (eV/angstrom) and, where they repeat in space, stress (eV/angstrom^3)."""

    spec_version: Literal[1] = 1
    kind: Literal["label"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    structures: StructureSource
    method: Component = Component(name="tblite")  # or an ASE calculator, pkg.module:Class
    sampling: Sampling = DynamicsSampling()
    # Unless said: by trajectory for md; for given as the dataset has it, or by random.
    split: Split = TrajectorySplit()
    publish_as: str | None = Field(default=None, alias="as", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

    @model_validator(mode="before")
    @classmethod
    def _usual_split(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or _sampling(data.get("sampling", {})) != "given":
            return data
        split, source = data.get("split"), data.get("structures")
        carried = split is None and isinstance(source, Mapping) and source.get("dataset") is not None
        if split is None or (isinstance(split, Mapping) and "by" not in split):
            return {**data, "split": {"by": "dataset" if carried else "random", **(split or {})}}
        return data

    @model_validator(mode="after")
    def _split_fits(self) -> Self:
        if isinstance(self.sampling, DynamicsSampling) and not isinstance(self.split, TrajectorySplit):
            raise ValueError(
                f"split.by is {self.split.by!r}, but frames of a trajectory are alike; allowed: trajectory"
            )
        if isinstance(self.sampling, GivenSampling) and isinstance(self.split, TrajectorySplit):
            raise ValueError("split.by is 'trajectory', but none is run; allowed: random, group, composition, dataset")
        if isinstance(self.split, KeptSplit) and self.structures.dataset is None:
            raise ValueError("split.by is 'dataset', but structures names none; allowed: random, group, composition")
        return self

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
        if isinstance(self.split, TrajectorySplit) and isinstance(self.sampling, DynamicsSampling):
            held_out, all_of_them = self.split.valid + self.split.test, self.sampling.params.trajectories
            if held_out >= all_of_them:
                raise ValueError(
                    f"split holds out {held_out} of {all_of_them} trajectories; leave at least one to train on"
                )
        return self

    @property
    def dataset_name(self) -> str:
        """The name the dataset is published under."""
        return self.publish_as or self.name
