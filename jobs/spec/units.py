"""Units that a file can hold its numbers in; a dataset holds angstrom and electronvolts."""

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from jobs.spec.frozen import Frozen

Length = Literal["angstrom", "nm", "pm", "bohr"]
Energy = Literal["eV", "meV", "hartree", "Ry", "kcal/mol", "kJ/mol"]
Pressure = Literal["GPa", "kbar", "bar", "Pa"]
LENGTHS: tuple[str, ...] = get_args(Length)
ENERGIES: tuple[str, ...] = get_args(Energy)
PRESSURES: tuple[str, ...] = get_args(Pressure)
FORCES = tuple(f"{energy}/{length}" for energy in ENERGIES for length in LENGTHS)
STRESSES = (*PRESSURES, *(f"{energy}/{length}^3" for energy in ENERGIES for length in LENGTHS))

if TYPE_CHECKING:
    Force: TypeAlias = str
    Stress: TypeAlias = str
else:
    Force = Literal[FORCES]
    Stress = Literal[STRESSES]


class Units(Frozen):
    """What the files hold. Whatever is not said is the source's own: angstrom and eV, but kcal/mol for rMD17.

    forces: energy/length unless said, for example 'hartree/bohr'. stress: energy/length^3 unless said, for example
    'GPa' or 'eV/angstrom^3'; positive under tension, as ASE has it.
    """

    length: Length | None = None
    energy: Energy | None = None
    forces: Force | None = None
    stress: Stress | None = None
