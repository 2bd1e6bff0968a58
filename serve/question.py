"""`equi query`: from a structure file or JSON to a request, and from an answer to tables."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.data import chemical_symbols

from cluster.commands.terminal import show_table
from cluster.errors import UserError

MOST_ATOMS_SHOWN = 50  # of one structure; more are for --json


def read_structures(path: Path) -> list[dict[str, Any]]:
    """Every structure of a file in a format ASE knows (xyz, extxyz, ...), as the endpoint takes them.

    Raises UserError if the file cannot be read, or is periodic, which these models are not.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file")
    try:
        found = ase.io.read(path, index=":")
    except Exception as error:  # each of ASE's readers raises what it likes
        raise UserError(f"{path} cannot be read as structures: {error}", allowed="xyz, or what ASE reads") from error
    frames: Sequence[Atoms] = found if isinstance(found, list) else [found]
    if any(frame.pbc.any() for frame in frames):
        raise UserError(f"{path} is periodic; the model sees molecules only", hint="Leave out pbc and Lattice.")
    return [{"numbers": frame.numbers.tolist(), "positions": frame.positions.tolist()} for frame in frames]


def read_body(text: str) -> Any:
    """The JSON given as text, as `@file`, or as `-` for standard input. Raises UserError."""
    source = "the body"
    if text == "-":
        text, source = sys.stdin.read(), "standard input"
    elif text.startswith("@"):
        source = text[1:]
        try:
            text = Path(source).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{source} cannot be read: {error.strerror}") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{source} is not JSON: {error}") from error


def show_energies(structures: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> None:
    """A table of energies; below it, for each structure, its atoms with their forces."""
    units, results = answer["units"], answer["results"]
    energies = [
        (number, len(result["forces"]), f"{result['energy']:.6f}", f"{_largest(result['forces']):.4f}")
        for number, result in enumerate(results)
    ]
    columns = ("structure", "atoms", f"energy, {units['energy']}", f"largest force, {units['forces']}")
    show_table(columns, energies, nothing="no structures")
    for number, (structure, result) in enumerate(zip(structures, results, strict=True)):
        atoms = [
            (index, chemical_symbols[element], *(f"{component: .4f}" for component in force))
            for index, (element, force) in enumerate(zip(structure["numbers"], result["forces"], strict=True))
        ]
        sys.stdout.write(f"\nstructure {number}, forces in {units['forces']} ({answer['model']})\n")
        show_table(("atom", "element", "x", "y", "z"), atoms[:MOST_ATOMS_SHOWN], nothing="no atoms")
        if len(atoms) > MOST_ATOMS_SHOWN:
            sys.stdout.write(f"... and {len(atoms) - MOST_ATOMS_SHOWN} more; --json prints all\n")


def _largest(forces: Sequence[Sequence[float]]) -> float:
    """Length of the longest force."""
    return max(math.hypot(*force) for force in forces)
