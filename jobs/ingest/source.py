"""What a source is: settings, a cheap plan that cuts its files into pieces, and a reader of one piece.

Pieces are a function of the files and the settings alone, so that a run that starts again finds the pieces it had.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from jobs.spec.units import Units

if TYPE_CHECKING:
    from cluster.dataset.schema import Kind

ASE_UNITS = Units(length="angstrom", energy="eV")
UNASSIGNED = ""  # the split of a row that the spec's own split decides
BYTES_A_PIECE = 16 << 20  # of text; a few seconds of parsing, all that a crash can lose of a task
NUMBERS_A_PIECE = 32 << 20  # bytes of plain numbers, which are only copied
ROWS_A_PIECE = 65_536  # at most, where rows are small


class Settings(BaseModel):
    """The settings of a source."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Piece:
    """What one task reads. `begin` and `end` are bytes or rows, as the source counts."""

    file: str  # absolute
    shown: str  # how messages and the manifest call the file
    name: str  # how the identifiers of its rows begin
    split: str  # "test" where the source holds these rows out, else UNASSIGNED
    begin: int = 0
    end: int = 0
    first: int = 0  # number of its first row in the file, from 0
    rows: int | None = None  # how many it has, where that is known without reading
    stamp: str = ""  # of the file: changed, it is read again
    detail: Mapping[str, Any] = field(default_factory=dict)  # JSON; what the plan found out


@dataclass(frozen=True)
class Unread:
    """A row that cannot be read: `where` (file:line, or as near as the format allows) and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Part:
    """What a piece gave: columns of the dataset's kind in the source's units, and what could not be read.

    table: always with string columns id, group and split. where: of a row of the table, as in `Unread`.
    """

    table: pa.Table
    where: Callable[[int], str]
    unread: Sequence[Unread] = ()


About = Callable[[Any, Sequence[Piece]], dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """A source that a dataset spec can name."""

    kind: "Callable[[Any], Kind]"  # of the settings
    settings: type[Settings]
    plan: Callable[[Any, Path], list[Piece]]  # (settings, folder in which relative files are looked for)
    read: Callable[[Any, Piece], Part]
    units: Units | None = None  # what its files hold unless the spec says otherwise; None: not structures
    grouped: Callable[[Any], bool] = lambda settings: False  # whether rows share groups
    about: About = lambda settings, pieces: {}  # for the provenance


def of_kind(kind: "Kind") -> "Callable[[Any], Kind]":
    """For sources that always give the same kind."""
    return lambda settings: kind


def programs(*names: str) -> About:
    """For the provenance: the versions of the distributions that read the files."""
    return lambda settings, pieces: {"programs": {name: importlib.metadata.version(name) for name in names}}


def row_runs(rows: int, width: int) -> list[range]:
    """All rows in turn, in runs that fit a piece; width: bytes a row."""
    size = max(1, min(ROWS_A_PIECE, NUMBERS_A_PIECE // max(1, width)))
    return [range(at, min(at + size, rows)) for at in range(0, rows, size)]
