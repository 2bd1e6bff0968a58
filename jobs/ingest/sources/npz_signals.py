"""Signals and fields in npz archives: arrays of numbers over one axis (time, energy) or two (a plane).

Shapes: N signals, C channels, L points, or H x W points.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError
from jobs.ingest.columns import numbered, table_of, tensors
from jobs.ingest.finding import Names, given_files
from jobs.ingest.npz import require, rows
from jobs.ingest.pictures import label_column
from jobs.ingest.source import Part, Piece, Settings, Source, of_kind, row_runs


class NpzSignalsSettings(Settings):
    """Which arrays of the archives are what."""

    file: Names  # an archive, a pattern, or a list of them
    test_file: Names | None = None  # every signal of these goes to the test split
    values: str = "values"  # (N, L), (N, C, L), (N, H, W) or (N, C, H, W)
    labels: str | None = None
    dimensions: Literal[1, 2] | None = None  # of a signal; without: 1, and 2 where the array has four axes


def plan(settings: NpzSignalsSettings, folder: Path) -> list[Piece]:
    """Runs of signals. Raises NotFoundError, UserError for a file of another format."""
    names = [name for name in (settings.values, settings.labels) if name is not None]
    pieces, shapes = [], set()
    for file in given_files(folder, settings.file, settings.test_file):
        values, *labels = require(file.path, *names)
        where = f"{file.path}, array {settings.values!r}"
        if values.dtype.kind not in "iuf":
            raise UserError(f"{where}: values of type {values.dtype}", allowed="numbers")
        shape = shape_of(values.shape, settings.dimensions, where)
        if labels and labels[0].shape[:1] != values.shape[:1]:
            raise UserError(f"{where} has {values.shape[0]} rows, {settings.labels!r} has {labels[0].shape[:1]}")
        shapes.add((shape, _kept(values.dtype)))
        width = int(np.prod(shape)) * _kept(values.dtype).itemsize
        for run in row_runs(values.shape[0], width):
            pieces.append(
                file.piece(run.start, run.stop, first=run.start, rows=len(run), detail={"shape": list(shape)})
            )
    if len(shapes) > 1:
        raise UserError(f"signals of several shapes or types: {sorted(map(str, shapes))}", allowed="one")
    return pieces


def read(settings: NpzSignalsSettings, piece: Piece) -> Part:
    """The signals of the piece."""
    path = Path(piece.file)
    values: NDArray[Any] = rows(path, settings.values, piece.begin, piece.end)
    shaped = values.astype(_kept(values.dtype)).reshape(-1, *piece.detail["shape"])
    columns: dict[str, Any] = {"values": tensors(shaped)}
    if settings.labels is not None:
        where = f"{piece.shown}, {settings.labels!r}"
        columns["label"] = label_column(rows(path, settings.labels, piece.begin, piece.end), where)
    ids = numbered(piece.name, np.arange(piece.begin, piece.end))
    return Part(table_of(ids, columns, piece.split), lambda row: f"{piece.shown}, row {piece.begin + row}")


def shape_of(shape: tuple[int, ...], dimensions: int | None, where: str) -> tuple[int, ...]:
    """The shape of one signal with its channels, from that of the array. Raises UserError where it is none."""
    own = shape[1:]
    wanted = dimensions or (2 if len(own) == 3 else 1)
    if len(own) == wanted:
        return (1, *own)
    if len(own) == wanted + 1:
        return own
    raise UserError(
        f"{where}: {shape} is no array of signals" + (f" of {dimensions} dimensions" if dimensions else ""),
        allowed="(N, L), (N, C, L), with dimensions: 2 (N, H, W), or (N, C, H, W)",
    )


def _kept(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of float that holds the numbers as they are."""
    small = dtype == np.float32 or dtype == np.float16 or (dtype.kind in "iu" and dtype.itemsize <= 2)
    return np.dtype(np.float32 if small else np.float64)


NPZ_SIGNALS = Source(kind=of_kind("signals"), settings=NpzSignalsSettings, plan=plan, read=read)
