"""What a reader is: settings, and a function from them to rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from cluster.errors import NotFoundError
from jobs.ingest.rows import ImageRow, StructureRow

UNASSIGNED = ""  # the split of a row that the spec's own split decides


@dataclass(frozen=True)
class Reading:
    """Everything a reader found. Exactly one of the two sequences has rows."""

    structures: Sequence[StructureRow] = ()
    images: Sequence[ImageRow] = ()
    provenance: dict[str, Any] | None = None


@dataclass(frozen=True)
class Reader:
    """A source a dataset spec can name. `files`: the settings that name files which must exist."""

    kind: Literal["structures", "images"]
    settings: type[BaseModel]
    read: Callable[[Any, Path], Reading]  # (settings, folder relative files are looked for in)
    files: tuple[str, ...] = ()


def existing(folder: Path, name: str) -> Path:
    """The file, absolute or below `folder`. Raises NotFoundError."""
    path = folder / Path(name).expanduser()
    if not path.is_file():
        raise NotFoundError(f"no file {path}")
    return path


def as_test(rows: Sequence[StructureRow]) -> list[StructureRow]:
    """The same rows, all held out for the test."""
    return [replace(row, split="test") for row in rows]
