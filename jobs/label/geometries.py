"""First geometries: a molecule by its name, or the frames of a file. Angstrom, no periodic cell."""

from pathlib import Path
from typing import Any

import ase.build
import ase.io
from ase import Atoms
from ase.collections import g2

from cluster.errors import NotFoundError, UserError
from jobs.spec.label import StructureSource

# Everyday names of ASE's G2 molecules, whose own names are formulas (ase.collections.g2).
_EVERYDAY = {
    "acetaldehyde": "CH3CHO",
    "acetic-acid": "CH3COOH",
    "acetone": "CH3COCH3",
    "acetylene": "C2H2",
    "ammonia": "NH3",
    "benzene": "C6H6",
    "butadiene": "butadiene",
    "dimethyl-ether": "CH3OCH3",
    "ethane": "C2H6",
    "ethanol": "CH3CH2OH",
    "ethylene": "C2H4",
    "formaldehyde": "H2CO",
    "formic-acid": "HCOOH",
    "methane": "CH4",
    "methanol": "CH3OH",
    "pyridine": "C5H5N",
    "water": "H2O",
}


def molecule_names() -> tuple[str, ...]:
    """Every name `structures.molecule` accepts, everyday names first."""
    return (*sorted(_EVERYDAY), *sorted(set(g2.names) - set(_EVERYDAY)))


def molecule(name: str) -> Atoms:
    """The equilibrium geometry (MP2/6-31G*, ASE's G2 collection) of a molecule. Raises NotFoundError."""
    formula = _EVERYDAY.get(name, name)
    if formula not in g2.names:
        raise NotFoundError(f"no molecule is called {name!r}", allowed=", ".join(sorted(_EVERYDAY)))
    build: Any = ase.build.molecule  # not annotated in ASE
    atoms: Atoms = build(formula)
    return atoms


def first_geometries(source: StructureSource, folder: Path) -> list[Atoms]:
    """The geometries trajectories start from; trajectory i takes number i modulo their count.

    `folder` is where relative files are looked for. Raises NotFoundError, UserError for a file ASE cannot
    read.
    """
    if source.molecule is not None:
        return [molecule(source.molecule)]
    path = folder / str(source.file)
    if not path.is_file():
        raise NotFoundError(f"no file {path}")
    try:
        frames = ase.io.read(path, index=":", format="extxyz")
    except Exception as error:  # ASE's reader raises whatever its parser meets, from KeyError to ValueError
        raise UserError(f"{path} is not extended XYZ: {error}") from error
    return [Atoms(numbers=frame.numbers, positions=frame.positions) for frame in frames]
