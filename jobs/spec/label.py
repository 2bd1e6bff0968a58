"""The YAML of kind `label`: which molecules, which method labels them, how geometries are sampled."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from jobs.spec.frozen import Component, Frozen
from jobs.spec.paths import below_spec


class StructureSource(Frozen):
    """Where the first geometries come from: one molecule of ASE's collection, or every frame of a file."""

    molecule: str | None = None  # a formula or name of ase.build.molecule, or a name such as "ethanol"
    file: str | None = None  # extended XYZ, relative to the spec; trajectory i starts from frame i modulo frames

    @field_validator("file")
    @classmethod
    def _absolute(cls, value: str | None, info: ValidationInfo) -> Any:
        return below_spec(value, info)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.molecule is None) == (self.file is None):
            raise ValueError("give exactly one of 'molecule' and 'file'")
        return self


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


class SamplingSpec(Frozen):
    """How geometries are drawn."""

    name: Literal["md"] = "md"
    params: MolecularDynamics = Field(default_factory=MolecularDynamics)


class TrajectorySplit(Frozen):
    """Whole trajectories go to one split: neighbouring frames never sit on both sides."""

    by: Literal["trajectory"] = "trajectory"
    valid: int = Field(default=1, ge=0, description="trajectories")
    test: int = Field(default=1, ge=0, description="trajectories")


class LabelSpec(Frozen):
    """A dataset of structures with energies (eV) and forces (eV/angstrom), computed by a physical method."""

    spec_version: Literal[1] = 1
    kind: Literal["label"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    structures: StructureSource
    method: Component = Component(name="tblite")  # or an ASE calculator, pkg.module:Class
    sampling: SamplingSpec = SamplingSpec()
    split: TrajectorySplit = TrajectorySplit()
    publish_as: str | None = Field(default=None, alias="as", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
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
