"""Whatever `ase.io` reads: trajectories, cells, outputs of electronic-structure programs. A file is a piece."""

import contextlib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.io.formats import ioformats
from ase.utils import string2index
from pydantic import field_validator

from jobs.ingest.columns import numbered, table_of
from jobs.ingest.finding import File, Names, given_files
from jobs.ingest.source import ASE_UNITS, Part, Piece, Settings, Source, Unread, of_kind, programs
from jobs.ingest.structures import LABELS, Label, Structure, Unreadable, checked_label, structure_columns


class AseSettings(Settings):
    """Which files, in which of ASE's formats, and what their structures are labelled with."""

    file: Names  # a file, a pattern, or a list of them
    test_file: Names | None = None  # every structure of these goes to the test split
    format: str | None = None  # a name of ase.io; without: ASE guesses it for each file
    index: str = ":"  # which structures of each file, as ASE takes it: all, the last (-1), every tenth (::10)
    labels: tuple[Label, ...] | None = None  # without: those of the first structure; each must have them
    group_by_file: bool = False  # each file is a group, such as a trajectory
    skip_single_atoms: bool = True  # isolated atoms are reference energies, not structures to learn forces from

    @field_validator("format")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in ioformats:
            close = get_close_matches(value, ioformats, n=1)
            raise ValueError(f"ase.io has no such format{f', did you mean {close[0]!r}?' if close else ''}")
        return value

    @field_validator("index")
    @classmethod
    def _slice(cls, value: str) -> str:
        if isinstance(string2index(value), str):
            raise ValueError("not an index of ASE, such as ':', '-1' or '::10'")
        return value


def plan(settings: AseSettings, folder: Path) -> list[Piece]:
    """A piece a file; how many structures are in it shows when it is read. Raises NotFoundError."""
    files = given_files(folder, settings.file, settings.test_file)
    labels = settings.labels if settings.labels is not None else _labels_there(files, settings)
    detail = {"labels": list(labels)}
    return [file.piece(0, 0, first=0, rows=None, detail=detail) for file in files]


def read(settings: AseSettings, piece: Piece) -> Part:
    """The structures of a file. One that ASE cannot read ends it: ASE does not find the next."""
    good: list[tuple[int, Structure]] = []
    unread: list[Unread] = []

    def where(number: int) -> str:
        return f"{piece.shown}, structure {number}"

    number = 0
    try:
        for atoms in _structures(Path(piece.file), settings):
            try:
                if not _left_out(atoms, settings):
                    good.append((number, _structure(atoms, piece.detail["labels"])))
            except Unreadable as error:
                unread.append(Unread(where(number), str(error)))
            number += 1
    except Exception as error:  # ASE's readers raise whatever they meet, from KeyError to AssertionError
        reason = f"ase.io cannot read it, nor what follows: {type(error).__name__}: {error}"
        unread.append(Unread(where(number), " ".join(reason.split())))
    ids = numbered(piece.name, np.array([at for at, _ in good], dtype=np.int64))
    groups = [piece.shown] * len(good) if settings.group_by_file else None
    table = table_of(ids, structure_columns([structure for _, structure in good]), piece.split, groups)
    return Part(table, lambda row: where(good[row][0]), unread)


def _structures(path: Path, settings: AseSettings) -> Iterator[Any]:
    yield from ase.io.iread(path, index=settings.index, format=settings.format)


def _structure(atoms: Any, labels: Iterable[Label]) -> Structure:
    there = _there(atoms)
    found: dict[Label, Any] = {}
    for label in labels:
        if label not in there:
            raise Unreadable(f"no {label}; it has {', '.join(sorted(there)) or 'nothing but atoms'}")
        found[label] = checked_label(label, there[label], len(atoms), label)
    cell, pbc = np.asarray(atoms.cell.array), np.asarray(atoms.pbc)
    return Structure(np.asarray(atoms.numbers), np.asarray(atoms.positions), cell, pbc, found)


def _left_out(atoms: Any, settings: AseSettings) -> bool:
    return settings.skip_single_atoms and len(atoms) == 1 and not atoms.pbc.any()


def _there(atoms: Any) -> dict[str, Any]:
    """What a structure is labelled with: results of its calculator before what else it carries."""
    results = atoms.calc.results if atoms.calc is not None else {}
    everything = {**atoms.arrays, **atoms.info, **results}
    return {name: everything[name] for name in LABELS if everything.get(name) is not None}


def _labels_there(files: Iterable[File], settings: AseSettings) -> list[Label]:
    """The labels of the first structure of the first file that can be read."""
    for file in files:
        with contextlib.suppress(Exception):  # that it cannot be read is said when its piece is
            for atoms in _structures(file.path, settings):
                if not _left_out(atoms, settings):
                    there = _there(atoms)
                    return [label for label in LABELS if label in there]
    return []


ASE = Source(
    kind=of_kind("structures"),
    settings=AseSettings,
    plan=plan,
    read=read,
    units=ASE_UNITS,
    grouped=lambda settings: settings.group_by_file,
    about=programs("ase"),
)
