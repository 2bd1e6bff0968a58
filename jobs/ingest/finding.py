"""Files that a spec names: by name, by pattern, or as a list of these."""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cluster.errors import NotFoundError, UserError
from jobs.ingest.source import UNASSIGNED, Piece

Names = str | tuple[str, ...]  # as a setting: a file, a pattern such as runs/*.xyz, or a list of them


@dataclass(frozen=True)
class File:
    """A file that a source reads."""

    path: Path
    shown: str  # as messages and the manifest call it
    name: str  # as the identifiers of its rows begin
    split: str  # "test" for one whose rows are held out, else UNASSIGNED

    def piece(
        self, begin: int, end: int, *, first: int, rows: int | None, detail: Mapping[str, Any] | None = None
    ) -> Piece:
        """A piece of this file."""
        return Piece(
            file=str(self.path.absolute()),
            shown=self.shown,
            name=self.name,
            split=self.split,
            begin=begin,
            end=end,
            first=first,
            rows=rows,
            stamp=stamp(self.path),
            detail=detail or {},
        )


def given_file(folder: Path, name: str, test_name: str | None = None) -> list[File]:
    """The one file of a source, and the one that is held out. Raises as `given_files`, also where a name fits more."""
    for each in (name, test_name):
        if each is not None and len(found := found_files(folder, each)) > 1:
            raise UserError(f"{each} fits {len(found)} files", allowed="one file")
    return given_files(folder, name, test_name)


def given_files(folder: Path, names: Names, test_names: Names | None) -> list[File]:
    """The files of a source, those held out last. Raises NotFoundError, UserError for a file on both sides."""
    own = found_files(folder, names)
    held = [] if test_names is None else found_files(folder, test_names)
    both = {path.resolve() for path in own} & {path.resolve() for path in held}
    if both:
        raise UserError(
            f"{len(both)} files are both read and held out: {', '.join(sorted(path.name for path in both)[:3])}",
            allowed="a file either in file or in test_file",
        )
    paths = [*own, *held]
    shown = short_names(paths)
    splits = [UNASSIGNED] * len(own) + ["test"] * len(held)
    return [File(*each) for each in zip(paths, shown, stems(shown), splits, strict=True)]


def found_files(folder: Path, names: Names) -> list[Path]:
    """The files, absolute or below `folder`; those of a pattern in the order of their names. Raises NotFoundError."""
    files: list[Path] = []
    for name in [names] if isinstance(names, str) else names:
        path = folder / Path(name).expanduser()
        if path.is_file():
            files.append(path)
        elif glob.has_magic(name):
            matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if os.path.isfile(match))
            if not matches:
                raise NotFoundError(f"no file fits the pattern {path}")
            files += matches
        else:
            raise NotFoundError(f"no file {path}{_near(path)}")
    return list(dict.fromkeys(files))


def found_folder(folder: Path, name: str) -> Path:
    """The folder, absolute or below `folder`. Raises NotFoundError."""
    path = folder / Path(name).expanduser()
    if not path.is_dir():
        raise NotFoundError(f"no folder {path}{_near(path)}")
    return path


def short_names(files: Sequence[Path]) -> list[str]:
    """A name for each file that tells it from the others: as much of its path as that takes."""
    if len({path.name for path in files}) == len(files):
        return [path.name for path in files]
    above = Path(os.path.commonpath(files))
    return [path.relative_to(above).as_posix() for path in files]


def stems(shown: Sequence[str]) -> list[str]:
    """The names without what follows the last dot, where that still tells them apart."""
    short = [name.removesuffix(".gz").rsplit(".", 1)[0] for name in shown]
    return short if len(set(short)) == len(short) else list(shown)


def stamp(path: Path) -> str:
    """Size and time of change: what another file in its place would not share."""
    about = path.stat()
    return f"{about.st_size}-{about.st_mtime_ns}"


def _near(path: Path) -> str:
    try:
        close = get_close_matches(path.name, os.listdir(path.parent), n=1)
    except OSError:
        return ""
    return f"; did you mean {close[0]}?" if close else ""
