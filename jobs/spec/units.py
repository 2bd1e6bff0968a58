"""Units that a file can hold its numbers in; a dataset holds angstrom and electronvolts."""

from difflib import get_close_matches
from typing import Literal, get_args

from pydantic import field_validator

from jobs.spec.frozen import Frozen

Length = Literal["angstrom", "nm", "pm", "bohr"]
Energy = Literal["eV", "meV", "hartree", "Ry", "kcal/mol", "kJ/mol"]
LENGTHS: tuple[str, ...] = get_args(Length)
ENERGIES: tuple[str, ...] = get_args(Energy)
PRESSURES = ("GPa", "kbar", "bar", "Pa")
FORCES = tuple(f"{energy}/{length}" for energy in ENERGIES for length in LENGTHS)
STRESSES = (*PRESSURES, *(f"{energy}/{length}^3" for energy in ENERGIES for length in LENGTHS))


class Units(Frozen):
    """What the files hold. Whatever is not said is the source's own: angstrom and eV, but kcal/mol for rMD17.

    forces: energy/length unless said, for example 'hartree/bohr'. stress: energy/length^3 unless said, for example
    'GPa' or 'eV/angstrom^3'; positive under tension, as ASE has it.
    """

    length: Length | None = None
    energy: Energy | None = None
    forces: str | None = None
    stress: str | None = None

    @field_validator("forces")
    @classmethod
    def _known_forces(cls, value: str | None) -> str | None:
        return _known(value, FORCES, "an energy over a length, such as eV/angstrom or hartree/bohr")

    @field_validator("stress")
    @classmethod
    def _known_stress(cls, value: str | None) -> str | None:
        return _known(value, STRESSES, f"{', '.join(PRESSURES)}, or an energy over a volume, such as eV/angstrom^3")


def _known(value: str | None, known: tuple[str, ...], allowed: str) -> str | None:
    if value is None or value in known:
        return value
    folded = {name.casefold(): name for name in known}
    close = get_close_matches(value.casefold(), folded, n=1)
    meant = f", did you mean {folded[close[0]]!r}?" if close else ""
    raise ValueError(f"found text {value!r}{meant}; allowed: {allowed}")
