"""From the units that files hold to those of a dataset: angstrom and eV (CODATA 2014, as ASE has them)."""

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from ase import units

from cluster.dataset.tensors import is_tensor, tensor_numpy
from jobs.ingest.columns import flat_values, list_lengths, lists, tensors
from jobs.spec.units import Units

IN_ANGSTROM = {"angstrom": 1.0, "nm": units.nm, "pm": units.nm / 1000, "bohr": units.Bohr}
IN_EV = {
    "eV": 1.0,
    "meV": 1e-3,
    "hartree": units.Hartree,
    "Ry": units.Rydberg,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
}
_IN_EV_PER_VOLUME = {"GPa": units.GPa, "kbar": 1000 * units.bar, "bar": units.bar, "Pa": units.Pascal}


@dataclass(frozen=True)
class Factors:
    """What each quantity of the files is multiplied by."""

    length: float  # gives angstrom
    energy: float  # gives eV
    forces: float  # gives eV/angstrom
    stress: float  # gives eV/angstrom^3


def held(said: Units, own: Units) -> Units:
    """Every unit the files hold: what the spec says, else the source's own, else what follows from these."""
    length, energy = said.length or own.length, said.energy or own.energy
    return Units(
        length=length,
        energy=energy,
        forces=said.forces or f"{energy}/{length}",
        stress=said.stress or f"{energy}/{length}^3",
    )


def factors(given: Units) -> Factors:
    """For units that are all there (`held`)."""
    return Factors(
        IN_ANGSTROM[str(given.length)], IN_EV[str(given.energy)], _ratio(str(given.forces)), _ratio(str(given.stress))
    )


def convert(table: pa.Table, by: Factors) -> pa.Table:
    """A table of structures in the units of a dataset."""
    known = {"positions": by.length, "cell": by.length, "energy": by.energy, "forces": by.forces, "stress": by.stress}
    for name, factor in known.items():
        if name in table.column_names and factor != 1.0:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, _scaled(table[name], factor))
    return table


def described(given: Units, by: Factors) -> dict[str, Any]:
    """For the provenance: what the files held, and the factors that made it angstrom and eV."""
    return {"held": given.model_dump(), "multiplied_by": asdict(by)}


def _scaled(column: pa.ChunkedArray, factor: float) -> Any:
    if is_tensor(column.type):
        return tensors(tensor_numpy(column) * factor)
    if pa.types.is_list(column.type):
        return lists(flat_values(column) * factor, list_lengths(column))
    return pa.array(column.to_numpy() * factor)


def _ratio(text: str) -> float:
    if text in _IN_EV_PER_VOLUME:
        return float(_IN_EV_PER_VOLUME[text])
    energy, _, length = text.rpartition("/")
    power = 3 if length.endswith("^3") else 1
    return float(IN_EV[energy] / IN_ANGSTROM[length.removesuffix("^3")] ** power)
