"""What a calculator says about one structure. Shapes: N atoms. eV, eV/angstrom, eV/angstrom^3."""

from typing import Any, NamedTuple

import numpy as np
from ase.calculators.calculator import CalculatorError

from jobs.label.geometry import Floats


class Labels(NamedTuple):
    """The labels of one structure; None where the calculator or the structure has none."""

    energy: float
    forces: Floats | None  # (N, 3)
    stress: Floats | None  # (3, 3), positive under tension


def compute_labels(atoms: Any, *, stress: bool) -> Labels:
    """Energy, raw forces, and stress if it is wanted, of atoms that have a calculator.

    Forces are not projected on constraints: those are not the derivative of the energy. Raises whatever the
    calculator raises, and CalculatorError for a number that is not finite.
    """
    energy = float(atoms.get_potential_energy())
    forces = virial = None
    if can(atoms.calc, "forces"):
        forces = np.array(atoms.get_forces(apply_constraint=False), dtype=np.float64)
    if stress:
        virial = np.array(atoms.get_stress(voigt=False, apply_constraint=False), dtype=np.float64)
    if not all(np.isfinite(value).all() for value in (energy, forces, virial) if value is not None):
        raise CalculatorError("the energy, a force or the stress is not finite")
    return Labels(energy, forces, virial)


def can(calculator: Any, label: str) -> bool:
    """Whether a calculator says that it computes a label."""
    return label in calculator.implemented_properties


def reason(error: BaseException) -> str:
    """Why a calculation failed, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
