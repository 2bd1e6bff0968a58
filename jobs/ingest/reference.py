"""Energies of single atoms, which a dataset's energies are told above: total energies are too large for float32."""

from collections.abc import Mapping
from pathlib import Path

import ase.io
import numpy as np
import pyarrow as pa
from ase.data import atomic_numbers, chemical_symbols

from cluster.errors import UserError
from jobs.ingest.columns import flat_values, list_lengths
from jobs.ingest.finding import found_files
from jobs.spec.dataset import ReferenceFile


def reference_energies(
    given: dict[str, float] | ReferenceFile | None, folder: Path, *, energy_key: str, in_ev: float
) -> dict[int, float]:
    """eV by atomic number; empty where none are given.

    energy_key, in_ev: how a file of them calls the energy, and its unit. Raises UserError for a file that does not
    tell them, NotFoundError.
    """
    if given is None:
        return {}
    if not isinstance(given, ReferenceFile):
        return {atomic_numbers[symbol]: energy for symbol, energy in given.items()}
    (path,) = found_files(folder, given.file)
    found: dict[int, float] = {}
    for number, atoms in enumerate(_structures(path)):
        where = f"{path}, structure {number}"
        if len(atoms) != 1:
            raise UserError(f"{where} has {len(atoms)} atoms", allowed="single atoms")
        results = atoms.calc.results if atoms.calc is not None else {}
        energy = results.get(energy_key, atoms.info.get(energy_key))
        if not isinstance(energy, int | float | np.number):
            raise UserError(f"{where} has no {energy_key!r}", allowed="an energy for each atom")
        element = int(atoms.numbers[0])
        if found.setdefault(element, float(energy) * in_ev) != float(energy) * in_ev:
            raise UserError(f"{where}: a second energy of {chemical_symbols[element]}", allowed="one an element")
    return found


def subtract(table: pa.Table, energies: Mapping[int, float]) -> pa.Table:
    """The structures with energies above those of their atoms. Raises UserError for an element without one."""
    if "energy" not in table.column_names:
        raise UserError("reference_energies are given, but the structures have no energy")
    numbers, lengths = flat_values(table["numbers"]), list_lengths(table["numbers"])
    lacking = sorted(set(np.unique(numbers).tolist()) - set(energies))
    if lacking:
        there = ", ".join(chemical_symbols[z] for z in sorted(energies))
        raise UserError(
            f"no reference energy of {', '.join(chemical_symbols[z] for z in lacking)}",
            allowed=f"one for each element; there are {there}",
        )
    by_number = np.zeros(256, dtype=np.float64)
    by_number[list(energies)] = list(energies.values())
    rows = np.repeat(np.arange(len(lengths)), lengths)
    atoms = np.bincount(rows, weights=by_number[numbers], minlength=len(lengths))
    place = table.schema.get_field_index("energy")
    return table.set_column(place, "energy", pa.array(table["energy"].to_numpy() - atoms))


def by_symbol(energies: Mapping[int, float]) -> dict[str, float]:
    """For the provenance."""
    return {chemical_symbols[number]: energy for number, energy in sorted(energies.items())}


def _structures(path: Path) -> list[ase.Atoms]:
    try:
        return list(ase.io.iread(path, index=":", format="extxyz"))
    except Exception as error:  # ASE's reader raises whatever its parser meets, from KeyError to ValueError
        raise UserError(f"{path} is not extended XYZ: {error}") from error
