"""Names of the chemical elements, so that an error says more than a number."""

from ase.data import chemical_symbols


def named(number: int) -> str:
    """`8 (O)`; the number alone where no element has it."""
    if 1 <= number < len(chemical_symbols):
        return f"{number} ({chemical_symbols[number]})"
    return str(number)
