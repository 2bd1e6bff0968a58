"""Rows of the arrays in an npz archive, without loading the array; numpy itself maps no array of an archive."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cluster.errors import UserError


@dataclass(frozen=True)
class Array:
    """What the header of an array says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def headers(path: Path) -> dict[str, Array]:
    """Every array of the archive. Raises UserError for a file that is no archive of plain arrays."""
    with _archive(path) as archive:
        found = {}
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    found[name.removesuffix(".npy")] = _header(file, path, name)
        return found


def require(path: Path, *names: str) -> list[Array]:
    """The headers of these arrays. Raises UserError, naming what there is."""
    there = headers(path)
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(f"{path} has no array {', '.join(missing)}", allowed=", ".join(sorted(there)) or "none")
    return [there[name] for name in names]


def rows(path: Path, name: str, begin: int, end: int) -> NDArray[Any]:
    """Rows `begin` to `end` of an array. A compressed archive is read from its start to there."""
    with _archive(path) as archive, archive.open(f"{name}.npy") as file:
        about = _header(file, path, name)
        if about.fortran or not about.shape:
            file.seek(0)
            whole: NDArray[Any] = npy.read_array(file, allow_pickle=False)
            return whole[begin:end] if whole.ndim else whole
        width = int(np.prod(about.shape[1:], dtype=np.int64)) * about.dtype.itemsize
        end = min(end, about.shape[0])
        file.seek(begin * width, 1)
        data = file.read((end - begin) * width)
        return np.frombuffer(data, dtype=about.dtype).reshape(end - begin, *about.shape[1:])


def _header(file: IO[bytes], path: Path, name: str) -> Array:
    version = npy.read_magic(file)
    read: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise UserError(f"{path}: array {name!r} is in version {version} of the npy format", allowed="1.0, 2.0")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise UserError(f"{path}: array {name!r} holds Python objects", allowed="numbers; objects would be unpickled")
    return Array(shape, dtype, fortran)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} is not an npz archive: {error}") from error
