"""Rows that are dropped, each for the first reason that holds. Angstrom and electronvolts.

Shapes: n rows, N atoms of them all.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ase.data import atomic_numbers
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from cluster.errors import NotFoundError
from cluster.store import Store
from jobs.ingest.columns import flat_values, list_lengths
from jobs.prepare.step import Apply, Outcome, Rows, Step, StepSettings, Surroundings

if TYPE_CHECKING:
    from cluster.dataset.schema import Kind

Flags = NDArray[np.bool_]
_NEEDS = {
    "max_atoms": "numbers",
    "min_atoms": "numbers",
    "species": "numbers",
    "max_force": "forces",
    "energy_per_atom": "energy",
}


class FilterSettings(StepSettings):
    """What stays; a setting that is not given drops nothing. The order here is the order of the reasons."""

    drop_ids: str | tuple[str, ...] | None = None  # ids, or a file with one a line, relative to the spec
    species: tuple[str, ...] | None = None  # symbols; structures with another element go
    min_atoms: int | None = Field(default=None, ge=1)
    max_atoms: int | None = Field(default=None, ge=1)
    energy_per_atom: tuple[float, float] | None = None  # lowest and highest, eV
    max_force: float | None = Field(default=None, gt=0)  # length of the force on any atom, eV/angstrom

    @field_validator("species")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        strange = [symbol for symbol in value or () if atomic_numbers.get(symbol, 0) < 1]
        if strange or value == ():
            raise ValueError(f"no element is called {strange[0]!r}" if strange else "no element at all would stay")
        return value

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("nothing to filter by")
        if self.min_atoms is not None and self.max_atoms is not None and self.min_atoms > self.max_atoms:
            raise ValueError(f"min_atoms {self.min_atoms} is above max_atoms {self.max_atoms}")
        if self.energy_per_atom is not None and self.energy_per_atom[0] >= self.energy_per_atom[1]:
            raise ValueError("energy_per_atom is [lowest, highest]")
        return self


def lacking(settings: FilterSettings, kind: "Kind", columns: frozenset[str]) -> str | None:
    """Every setting but drop_ids is about structures."""
    for name, column in _NEEDS.items():
        if getattr(settings, name) is None:
            continue
        if kind != "structures":
            return f"{name} is about structures, and this is a dataset of {kind}"
        if column not in columns:
            return f"{name} needs the column {column!r}, which the dataset does not have"
    return None


def pin(settings: FilterSettings, store: Store) -> dict[str, list[str]]:
    """The ids of the file, which workers elsewhere may not see. Raises NotFoundError."""
    return {"drop_ids": read_ids(Path(settings.drop_ids))} if isinstance(settings.drop_ids, str) else {}


def make(settings: FilterSettings, surroundings: Surroundings) -> Apply:
    """The function that drops."""
    dropped_ids = pa.array(settings.drop_ids or (), pa.string())

    def apply(rows: Rows) -> Outcome:
        keep = np.ones(rows.table.num_rows, dtype=bool)
        dropped = {}
        for reason, wrong in _reasons(rows.table, settings, dropped_ids):
            dropped[reason] = int((keep & wrong).sum())
            keep &= ~wrong
        return Outcome(rows.table.filter(pa.array(keep)), dropped)

    return apply


def read_ids(path: Path) -> list[str]:
    """The ids of a file, one a line; empty lines do not count. Raises NotFoundError."""
    if not path.is_file():
        raise NotFoundError(f"no file {path}")
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def _reasons(table: pa.Table, settings: FilterSettings, dropped_ids: pa.Array) -> list[tuple[str, Flags]]:
    found: list[tuple[str, Flags]] = []
    if settings.drop_ids is not None:
        listed = pc.is_in(table["id"], value_set=dropped_ids)
        found.append(("drop_ids", listed.to_numpy()))
    if settings.species is not None:
        numbers = flat_values(table["numbers"])
        strange = ~np.isin(numbers, [atomic_numbers[symbol] for symbol in settings.species])
        found.append(("species", _any(strange, list_lengths(table["numbers"]))))
    if settings.min_atoms is not None:
        found.append(("min_atoms", list_lengths(table["numbers"]) < settings.min_atoms))
    if settings.max_atoms is not None:
        found.append(("max_atoms", list_lengths(table["numbers"]) > settings.max_atoms))
    if settings.energy_per_atom is not None:
        lowest, highest = settings.energy_per_atom
        each = table["energy"].to_numpy() / list_lengths(table["numbers"])
        found.append(("energy_per_atom", (each < lowest) | (each > highest)))
    if settings.max_force is not None:
        forces = flat_values(table["forces"]).reshape(-1, 3)
        strong = np.einsum("nx,nx->n", forces, forces) > settings.max_force**2
        found.append(("max_force", _any(strong, list_lengths(table["numbers"]))))
    return found


def _any(atoms: Flags, sizes: NDArray[np.int64]) -> Flags:
    """Whether it is so for an atom of each row."""
    row = np.repeat(np.arange(len(sizes)), sizes)
    return np.bincount(row[atoms], minlength=len(sizes)) > 0


FILTER = Step(settings=FilterSettings, make=make, lacking=lacking, pin=pin)
