"""Extended XYZ: many structures in a text file, with an energy (eV) and forces (eV/angstrom) each."""

import importlib.metadata
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from pydantic import BaseModel, ConfigDict

from cluster.errors import UserError
from jobs.ingest.reading import UNASSIGNED, Reading, as_test, existing
from jobs.ingest.rows import StructureRow


class ExtxyzSettings(BaseModel):
    """Which files, and under which names the labels stand in them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    test_file: str | None = None  # every frame of it goes to the test split
    energy_key: str = "energy"  # eV; "energy" and "forces" are what ASE reads into its calculator
    forces_key: str = "forces"  # eV/angstrom
    group_key: str | None = None  # a value of each frame that names its trajectory; then split by group
    skip_single_atoms: bool = True  # isolated atoms are reference energies, not structures to learn forces from


def read_extxyz(settings: ExtxyzSettings, folder: Path) -> Reading:
    """Every frame. Raises UserError for a file that cannot be read or a frame without both labels."""
    rows = _frames(existing(folder, settings.file), settings, "train")
    if settings.test_file is not None:
        rows += as_test(_frames(existing(folder, settings.test_file), settings, "test"))
    files = [name for name in (settings.file, settings.test_file) if name is not None]
    return Reading(
        structures=rows,
        provenance={
            "origin": [Path(name).name for name in files],
            "programs": {"ase": importlib.metadata.version("ase")},
        },
    )


def _frames(path: Path, settings: ExtxyzSettings, prefix: str) -> list[StructureRow]:
    try:
        frames = ase.io.read(path, index=":", format="extxyz")
    except Exception as error:  # ASE's reader raises whatever its parser meets, from KeyError to ValueError
        raise UserError(f"{path} is not extended XYZ: {error}") from error
    rows = []
    for number, atoms in enumerate(frames):
        if len(atoms) == 1 and settings.skip_single_atoms:
            continue
        if atoms.pbc.any():
            raise UserError(f"{path}, frame {number}: periodic structures are not supported yet")
        energy, forces = _labels(atoms, settings)
        if energy is None or forces is None:
            missing = settings.energy_key if energy is None else settings.forces_key
            there = sorted({*atoms.info, *atoms.arrays, *(atoms.calc.results if atoms.calc else ())})
            raise UserError(f"{path}, frame {number}: no {missing!r}", allowed=", ".join(there))
        group = atoms.info.get(settings.group_key) if settings.group_key else None
        rows.append(
            StructureRow(
                id=f"{prefix}-{number:06d}",
                numbers=np.asarray(atoms.numbers),
                positions=np.asarray(atoms.positions, dtype=np.float64),
                energy=float(energy),
                forces=np.asarray(forces, dtype=np.float64),
                group=str(group) if group is not None else f"{prefix}-{number:06d}",
                split=UNASSIGNED,
            )
        )
    return rows


def _labels(atoms: Any, settings: ExtxyzSettings) -> tuple[Any, Any]:
    # ASE moves the names "energy" and "forces" into a calculator and leaves every other one on the atoms.
    results = atoms.calc.results if atoms.calc is not None else {}
    energy = results.get(settings.energy_key, atoms.info.get(settings.energy_key))
    forces = results.get(settings.forces_key, atoms.arrays.get(settings.forces_key))
    return energy, forces
