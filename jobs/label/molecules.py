"""Molecules by their names, at the equilibrium geometries that ASE comes with. Angstrom."""

from typing import Any

import ase.build
from ase import Atoms
from ase.collections import g2

from cluster.errors import NotFoundError

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
