"""The comment line of an extended XYZ frame: cell, periodicity, columns of the atoms, and the values that are wanted.

What is written plainly, key=value or key="value", is read here (30 us a line); anything with brackets, escapes or JSON
is left to ASE's own parser (150 us a line), whose meaning this one has.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.io import extxyz as ase_extxyz
from numpy.typing import NDArray

_ASE: Any = ase_extxyz  # not annotated
_PAIR = re.compile(r"""\s*([^\s="'\[\]{}\\]+)(?:=("[^"\\]*"|[^\s="'\[\]{}\\]+))?(?=\s|$)""")
_WORD = re.compile(r"[^\s,]+")
_TRUTH = {word: word[0] in "tT" for word in ("T", "F", "true", "false", "True", "False", "TRUE", "FALSE")}
_PLAIN = "species:S:1:pos:R:3"  # what a frame has that does not say


@dataclass(frozen=True)
class Columns:
    """Which columns of an atom's line are what, under ASE's names: symbols, numbers, positions, forces."""

    places: dict[str, range]
    width: int


@dataclass(frozen=True)
class Comment:
    """What a comment line says."""

    columns: Columns
    values: dict[str, Any]  # of the keys that were wanted
    keys: tuple[str, ...]  # of everything it says
    cell: NDArray[np.float64] | None  # (3, 3), rows are lattice vectors
    pbc: NDArray[np.bool_]  # (3,)


def parse_comment(line: str, wanted: frozenset[str]) -> Comment:
    """Raises ValueError or KeyError for a line that is none of extended XYZ."""
    said = _plain(line)
    if said is None:
        known = _ASE.key_val_str_to_dict(line) if line.strip() else {}
        said = {key: value for key, value in known.items() if key not in ("Lattice", "Properties")}
        cell = np.asarray(known["Lattice"], dtype=np.float64).T if "Lattice" in known else None
        properties = known.get("Properties", _PLAIN)
        values = {key: known[key] for key in wanted if key in known}
        pbc = known.get("pbc")
    else:
        cell = _cell(said["Lattice"]) if "Lattice" in said else None
        properties = said.get("Properties", _PLAIN)
        values = {key: _value(key, said[key]) for key in wanted if key in said}
        pbc = said.get("pbc")
    repeats = _repeats(pbc) if isinstance(pbc, str) else _axes(cell is not None if pbc is None else pbc)
    if repeats.any() and cell is None:
        raise ValueError("it repeats (pbc) but has no Lattice")
    return Comment(_columns(str(properties)), values, tuple(said), cell, repeats)


def _plain(line: str) -> dict[str, str] | None:
    """The line as pairs of texts; None where it is not written plainly."""
    said: dict[str, str] = {}
    at, end = 0, len(line.rstrip())
    while at < end:
        pair = _PAIR.match(line, at)
        if pair is None:
            return None
        said[pair[1]] = "T" if pair[2] is None else pair[2].strip('"')
        at = pair.end()
    return said


def _value(key: str, text: str) -> Any:
    if text.startswith("_JSON "):
        return _ASE.key_val_str_to_dict(f'{key}="{text}"')[key]
    value = _typed(text)
    if key in ("stress", "virial"):  # ASE's special keys: nine numbers, column by column
        return np.asarray(value).reshape((3, 3), order="F")
    return value


def _typed(text: str) -> Any:
    """Numbers, truth values, or the text itself; one of them or several."""
    words = _WORD.findall(text)
    for convert in (int, float, _TRUTH.__getitem__):
        try:
            several = [convert(word) for word in words]
        except (ValueError, KeyError):
            continue
        return several[0] if len(several) == 1 else np.array(several)
    return text


@functools.lru_cache(maxsize=64)  # most files repeat one cell
def _cell(text: str) -> NDArray[np.float64]:
    vectors = np.array([float(word) for word in _WORD.findall(text)])
    if vectors.shape != (9,):
        raise ValueError(f"Lattice has {len(vectors)} numbers, not 9")
    return vectors.reshape(3, 3)


@functools.lru_cache(maxsize=64)
def _repeats(text: str) -> NDArray[np.bool_]:
    return _axes(_typed(text))


def _axes(value: Any) -> NDArray[np.bool_]:
    axes = np.asarray(value)
    if axes.dtype.kind not in "bi" or axes.shape not in ((), (1,), (3,)):
        raise ValueError(f"pbc is {value!r}, not three of T and F")
    return np.broadcast_to(axes.astype(bool), (3,))


@functools.lru_cache(maxsize=64)
def _columns(properties: str) -> Columns:
    known, names, _, _ = _ASE.parse_properties(properties)
    places, at = {}, 0
    for name in names:
        meaning, number = known[name]
        places[str(meaning)] = range(at, at + number)
        at += number
    if "positions" not in places or not {"symbols", "numbers"} & set(places):
        raise ValueError(f"Properties={properties} names no species or no positions")
    return Columns(places, at)
