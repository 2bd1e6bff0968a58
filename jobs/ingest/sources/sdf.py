"""SDF: molecules in records that end with $$$$ (MDL V2000), read one by one through ASE. Coordinates in angstrom."""

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase.io.sdf import get_num_atoms_sdf_v2000, read_sdf

from jobs.ingest.finding import Names, given_files
from jobs.ingest.source import ASE_UNITS, Part, Piece, Settings, Source, of_kind, programs
from jobs.ingest.stretches import Stretch, Text, cut, text_of
from jobs.ingest.structure_part import structure_part
from jobs.ingest.structures import Label, Structure, Unreadable

_WINDOW = 64 << 20  # bytes searched at a time
_ITEM = re.compile(r"^>.*<([^>]+)>.*\n((?:.+\n)*)", re.MULTILINE)


class SdfSettings(Settings):
    """Which files, and which data items of a record (`> <name>`) are its energy and its group."""

    file: Names  # a file, a pattern, or a list of them
    test_file: Names | None = None  # every record of these goes to the test split
    energy_key: str | None = None
    group_key: str | None = None


def plan(settings: SdfSettings, folder: Path) -> list[Piece]:
    """Runs of whole records. Raises NotFoundError."""
    pieces = []
    for file in given_files(folder, settings.file, settings.test_file):
        first = 0
        for run in cut(records(text_of(file.path))):
            detail = {"line": run[0].line}
            pieces.append(file.piece(run[0].begin, run[-1].end, first=first, rows=len(run), detail=detail))
            first += len(run)
    return pieces


def read(settings: SdfSettings, piece: Piece) -> Part:
    """The molecules of the piece that can be read, and the records that cannot."""
    text = text_of(Path(piece.file))[piece.begin : piece.end]
    there = list(records(text))
    found: dict[int, Structure] = {}
    groups: dict[int, str] = {}
    problems: dict[int, str] = {}
    for number, record in enumerate(there):
        try:
            found[number], groups[number] = _molecule(text[record.begin : record.end].tobytes(), settings)
        except Unreadable as error:
            problems[number] = str(error)

    return structure_part(piece, there, found, problems, groups if settings.group_key is not None else None)


def records(text: Text) -> Iterator[Stretch]:
    """Every record, with the line that ends it. What follows the last end is one too, unless it is blank."""
    begin = line = 0
    for end in _ends(text):
        yield Stretch(begin, end, line)
        line += int(np.count_nonzero(text[begin:end] == 10))
        begin = end
    if text[begin:].tobytes().strip():
        yield Stretch(begin, len(text), line)


def _ends(text: Text) -> Iterator[int]:
    """Where each line that begins with $$$$ ends."""
    at = 0
    while at < len(text):
        window = text[at : at + _WINDOW].tobytes()
        last = window.rfind(b"\n") + 1 if at + _WINDOW < len(text) else len(window)
        for match in re.finditer(rb"^\$\$\$\$[^\n]*\n?", window[:last], re.MULTILINE):
            yield at + match.end()
        at += last or len(window)


def _molecule(record: bytes, settings: SdfSettings) -> tuple[Structure, str]:
    """The structure of a record and its group. Raises Unreadable."""
    try:
        text = record.decode("utf-8").replace("\r\n", "\n")
        counts = text.split("\n", 4)[3]
        if "V3000" in counts:
            raise Unreadable("it is written in V3000; V2000 is read")
        said = get_num_atoms_sdf_v2000(counts)
        atoms: Any = read_sdf(StringIO(text))
    except Unreadable:
        raise
    except Exception as error:  # ASE's reader raises whatever it meets, from IndexError to KeyError
        raise Unreadable(f"it is no V2000 record: {type(error).__name__}: {error}") from error
    if len(atoms) != said:
        raise Unreadable(f"its counts line says {said} atoms, but {len(atoms)} follow")
    items = {name: value.strip() for name, value in _ITEM.findall(text)}
    labels: dict[Label, Any] = {}
    if settings.energy_key is not None:
        word = _item(items, settings.energy_key)
        try:
            labels["energy"] = float(word)
        except ValueError:
            raise Unreadable(f"its energy is {word!r}, not a number") from None
    group = _item(items, settings.group_key) if settings.group_key is not None else ""
    return Structure(np.asarray(atoms.numbers), np.asarray(atoms.positions), labels=labels), group


def _item(items: dict[str, str], name: str) -> str:
    if name not in items:
        raise Unreadable(f"no data item {name!r}; it has {', '.join(sorted(items)) or 'none'}")
    return items[name]


SDF = Source(
    kind=of_kind("structures"),
    settings=SdfSettings,
    plan=plan,
    read=read,
    units=ASE_UNITS,
    grouped=lambda settings: settings.group_key is not None,
    about=programs("ase"),
)
