"""IDX, the format MNIST was published in (LeCun 1998): a header and an array of numbers, plain or gzipped."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError
from jobs.ingest.columns import numbered, table_of
from jobs.ingest.finding import given_file, stamp
from jobs.ingest.pictures import check_pixels, label_column, layout_of, pixel_column
from jobs.ingest.source import Part, Piece, Settings, Source, of_kind, row_runs

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class IdxSettings(Settings):
    """The files: pictures, their labels, and those of the test split."""

    file: str  # pictures
    labels_file: str | None = None
    test_file: str | None = None  # every picture of it goes to the test split
    test_labels_file: str | None = None


def plan(settings: IdxSettings, folder: Path) -> list[Piece]:
    """Runs of pictures. Raises NotFoundError, UserError for a file of another format."""
    pairs = list(zip(given_file(folder, settings.file, settings.test_file), _labels(settings, folder), strict=False))
    if len({labels is None for _, labels in pairs}) > 1:
        raise UserError("labels of one split only", allowed="labels_file and test_labels_file, or neither")
    pieces, shapes = [], set()
    for file, labels in pairs:
        dtype, shape = header(file.path)
        check_pixels(dtype, str(file.path))
        layout = layout_of(shape, None, str(file.path))
        if labels is not None and header(labels)[1][:1] != shape[:1]:
            raise UserError(f"{file.path} has {shape[0]} pictures, {labels} has {header(labels)[1][0]} labels")
        shapes.add((shape[1:], dtype))
        detail = {"labels": None if labels is None else str(labels.absolute()), "layout": layout}
        for run in row_runs(shape[0], int(np.prod(shape[1:])) * dtype.itemsize):
            piece = file.piece(run.start, run.stop, first=run.start, rows=len(run), detail=detail)
            pieces.append(piece if labels is None else replace(piece, stamp=f"{piece.stamp} {stamp(labels)}"))
    if len(shapes) > 1:
        raise UserError(f"pictures of several shapes or types: {sorted(map(str, shapes))}", allowed="one")
    return pieces


def read(settings: IdxSettings, piece: Piece) -> Part:
    """The pictures of the piece."""
    labels = piece.detail["labels"]
    columns = {"pixels": pixel_column(rows(Path(piece.file), piece.begin, piece.end), piece.detail["layout"])}
    if labels is not None:
        columns["label"] = label_column(rows(Path(labels), piece.begin, piece.end), labels)
    ids = numbered(piece.split or "train", np.arange(piece.begin, piece.end))
    return Part(table_of(ids, columns, piece.split), lambda row: f"{piece.shown}, row {piece.begin + row}")


def header(path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape of the array. Raises UserError."""
    with _opened(path) as file:
        return _header(file, path)


def rows(path: Path, begin: int, end: int) -> NDArray[Any]:
    """Rows `begin` to `end`, in native byte order. A gzipped file is read from its start to there."""
    with _opened(path) as file:
        dtype, shape = _header(file, path)
        width = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        file.seek(begin * width, 1)
        data = file.read((end - begin) * width)
        if len(data) != (end - begin) * width:
            raise UserError(f"{path} ends within its row {begin + len(data) // max(1, width)} of {shape[0]}")
        return np.frombuffer(data, dtype=dtype).reshape(end - begin, *shape[1:]).astype(dtype.newbyteorder("="))


def _header(file: IO[bytes] | gzip.GzipFile, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 8:
        raise UserError(f"{path} is not in the IDX format: it begins with {magic.hex(' ')}", allowed="00 00 08 03, ...")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise UserError(f"{path} ends within its header")
    return np.dtype(_TYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            if not zipped:
                yield plain
                return
            with gzip.GzipFile(fileobj=plain) as unzipped:
                yield unzipped
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _labels(settings: IdxSettings, folder: Path) -> list[Path | None]:
    names = [settings.labels_file, settings.test_labels_file]
    return [None if name is None else given_file(folder, name)[0].path for name in names]


IDX = Source(kind=of_kind("images"), settings=IdxSettings, plan=plan, read=read)
