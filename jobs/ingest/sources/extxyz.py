"""Extended XYZ: many structures in a text file, read in pieces that are found by their place in the file."""

import contextlib
import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.ingest.finding import File, Names, given_files
from jobs.ingest.source import ASE_UNITS, Part, Piece, Settings, Source, of_kind, programs
from jobs.ingest.sources.xyz_atoms import Atoms, read_bodies
from jobs.ingest.sources.xyz_comment import Comment, parse_comment
from jobs.ingest.sources.xyz_frames import Frame, frames
from jobs.ingest.stretches import cut, text_of
from jobs.ingest.structure_part import structure_part
from jobs.ingest.structures import LABELS, Label, Structure, Unreadable, checked_label

_FIRST = 64  # frames looked at to learn which labels there are
_GEOMETRY = {"symbols", "numbers", "positions", "Lattice", "Properties", "pbc"}


class ExtxyzSettings(Settings):
    """Which files, and under which names the labels stand in them."""

    file: Names  # a file, a pattern, or a list of them
    test_file: Names | None = None  # every frame of these goes to the test split
    energy_key: str = "energy"
    forces_key: str = "forces"
    stress_key: str = "stress"  # nine numbers, positive under tension
    charge_key: str = "charge"  # of the structure, e
    spin_key: str = "spin"  # multiplicity
    labels: tuple[Label, ...] | None = None  # without: those of the first structure; each frame must have them
    group_key: str | None = None  # a value of each frame that names its trajectory; then split by group
    group_by_file: bool = False  # each file is a group
    skip_single_atoms: bool = True  # isolated atoms are reference energies, not structures to learn forces from

    def key(self, label: Label) -> str:
        """What the file calls a label."""
        name: str = getattr(self, f"{label}_key")
        return name


def plan(settings: ExtxyzSettings, folder: Path) -> list[Piece]:
    """Runs of whole frames. Raises NotFoundError."""
    files = given_files(folder, settings.file, settings.test_file)
    labels = settings.labels if settings.labels is not None else _labels_there(files, settings)
    pieces = []
    for file in files:
        first = 0
        for run in cut(frames(text_of(file.path))):
            detail = {"line": run[0].line, "labels": list(labels)}
            pieces.append(file.piece(run[0].begin, run[-1].end, first=first, rows=len(run), detail=detail))
            first += len(run)
    return pieces


def read(settings: ExtxyzSettings, piece: Piece) -> Part:
    """The frames of the piece that can be read, and those that cannot."""
    data = text_of(Path(piece.file))[piece.begin : piece.end].tobytes()
    there = list(frames(np.frombuffer(data, dtype=np.uint8)))
    problems = {number: frame.problem for number, frame in enumerate(there) if frame.problem}
    comments: dict[int, Comment] = {}
    for number, frame in enumerate(there):
        if number in problems:
            continue
        try:
            comment = parse_comment(_comment(data, frame), _wanted(settings))
        except (ValueError, KeyError) as error:
            problems[number] = f"its comment line cannot be read: {error}"
            continue
        if not _left_out(frame, comment, settings):
            comments[number] = comment
    chosen = {number: there[number] for number in comments}
    columns = {number: comment.columns for number, comment in comments.items()}
    found: dict[int, Structure] = {}
    for number, atoms in read_bodies(data, chosen, columns, frozenset({settings.forces_key})).items():
        try:
            found[number] = _structure(comments[number], atoms, settings, piece.detail["labels"])
        except Unreadable as error:
            problems[number] = str(error)

    groups = {number: _group(comments[number], piece, settings) for number in found} if _grouped(settings) else None
    return structure_part(piece, there, found, problems, groups)


def _structure(
    comment: Comment, atoms: Atoms | Unreadable, settings: ExtxyzSettings, labels: Iterable[Label]
) -> Structure:
    """The structure of a frame. Raises Unreadable."""
    if isinstance(atoms, Unreadable):
        raise atoms
    found: dict[Label, Any] = {}
    for label in labels:
        key = settings.key(label)
        value = atoms.real.get(key) if label == "forces" else comment.values.get(key)
        if value is None:
            there = sorted({*comment.keys, *comment.columns.places} - _GEOMETRY)
            raise Unreadable(f"no {label} ({key!r}); it has {', '.join(there) or 'nothing but atoms'}")
        found[label] = checked_label(label, value, len(atoms.numbers), key)
    if settings.group_key is not None and settings.group_key not in comment.values:
        raise Unreadable(f"no {settings.group_key!r}, which names its group")
    return Structure(atoms.numbers, atoms.real["positions"], comment.cell, comment.pbc, found)


def _labels_there(files: Iterable[File], settings: ExtxyzSettings) -> list[Label]:
    """The labels of the first structure that can be read, and those whose keys the spec names."""
    there = set[str]()
    for file in files:
        text = text_of(file.path)
        for frame in itertools.islice(frames(text), _FIRST):
            if frame.problem or there:
                continue
            with contextlib.suppress(ValueError, KeyError):
                data = text[frame.begin : frame.end].tobytes()
                comment = parse_comment(_comment(data, replace(frame, begin=0)), frozenset())
                if not _left_out(frame, comment, settings):
                    there = {*comment.keys, *({settings.forces_key} & set(comment.columns.places))}
        if there:
            break
    return [x for x in LABELS if settings.key(x) in there or f"{x}_key" in settings.model_fields_set]


def _comment(data: bytes, frame: Frame) -> str:
    begin = data.index(b"\n", frame.begin) + 1
    end = data.find(b"\n", begin)
    return data[begin : end if end >= 0 else len(data)].decode("utf-8")


def _left_out(frame: Frame, comment: Comment, settings: ExtxyzSettings) -> bool:
    return settings.skip_single_atoms and frame.atoms == 1 and not comment.pbc.any()


def _wanted(settings: ExtxyzSettings) -> frozenset[str]:
    keys = {settings.key(x) for x in LABELS if x != "forces"}
    return frozenset(keys | ({settings.group_key} if settings.group_key else set()))


def _grouped(settings: ExtxyzSettings) -> bool:
    return settings.group_key is not None or settings.group_by_file


def _group(comment: Comment, piece: Piece, settings: ExtxyzSettings) -> str:
    return str(comment.values[settings.group_key]) if settings.group_key is not None else piece.shown


EXTXYZ = Source(
    kind=of_kind("structures"),
    settings=ExtxyzSettings,
    plan=plan,
    read=read,
    units=ASE_UNITS,
    grouped=_grouped,
    about=programs("ase"),
)
