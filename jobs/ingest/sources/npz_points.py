"""Point clouds in npz archives: all of one size, or one after another with the size of each.

Shapes: N clouds, P points of each or T of all, F features of a point.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError
from jobs.ingest.columns import lists, numbered, table_of
from jobs.ingest.finding import Names, given_files
from jobs.ingest.npz import Array, require, rows
from jobs.ingest.pictures import label_column
from jobs.ingest.source import Part, Piece, Settings, Source, of_kind, row_runs

_ALL = 1 << 62


class NpzPointsSettings(Settings):
    """Which arrays of the archives are what."""

    file: Names  # an archive, a pattern, or a list of them
    test_file: Names | None = None  # every cloud of these goes to the test split
    positions: str = "positions"  # (N, P, 3), or (T, 3) with sizes
    sizes: str | None = None  # (N,): how many points each cloud has
    features: str | None = None  # (N, P, F), or (T, F) with sizes
    labels: str | None = None  # (N,)


def plan(settings: NpzPointsSettings, folder: Path) -> list[Piece]:
    """Runs of clouds. Raises NotFoundError, UserError for a file of another format."""
    names = [n for n in (settings.positions, settings.sizes, settings.features, settings.labels) if n is not None]
    pieces = []
    for file in given_files(folder, settings.file, settings.test_file):
        there = dict(zip(names, require(file.path, *names), strict=True))
        ends = np.cumsum(_sizes(settings, file.path, there))
        _check(settings, file.path, there, ends)
        width = 0 if not len(ends) else int(ends[-1]) * 24 // len(ends)
        for run in row_runs(len(ends), width):
            points = [int(ends[run.start - 1]) if run.start else 0, int(ends[run.stop - 1])]
            pieces.append(file.piece(run.start, run.stop, first=run.start, rows=len(run), detail={"points": points}))
    return pieces


def read(settings: NpzPointsSettings, piece: Piece) -> Part:
    """The clouds of the piece."""
    path = Path(piece.file)

    def of_points(name: str) -> NDArray[Any]:
        if settings.sizes is not None:
            return rows(path, name, *piece.detail["points"])
        values = rows(path, name, piece.begin, piece.end)
        return values.reshape(-1, values.shape[-1])

    positions = of_points(settings.positions).astype(np.float64)
    clouds = piece.end - piece.begin
    if settings.sizes is None:
        sizes = np.full(clouds, len(positions) // max(1, clouds))
    else:
        sizes = rows(path, settings.sizes, piece.begin, piece.end).astype(np.int64)
    columns: dict[str, Any] = {"positions": lists(positions, 3 * sizes)}
    if settings.features is not None:
        features = of_points(settings.features).astype(np.float32)
        columns["features"] = lists(features, features.shape[1] * sizes)
    if settings.labels is not None:
        where = f"{piece.shown}, {settings.labels!r}"
        columns["label"] = label_column(rows(path, settings.labels, piece.begin, piece.end), where)
    ids = numbered(piece.name, np.arange(piece.begin, piece.end))
    return Part(table_of(ids, columns, piece.split), lambda row: f"{piece.shown}, row {piece.begin + row}")


def _sizes(settings: NpzPointsSettings, path: Path, there: dict[str, Array]) -> NDArray[np.int64]:
    if settings.sizes is not None:
        return rows(path, settings.sizes, 0, _ALL).astype(np.int64).reshape(-1)
    shape = there[settings.positions].shape
    return np.full(shape[0] if shape else 0, shape[1] if len(shape) > 1 else 0, dtype=np.int64)


def _check(settings: NpzPointsSettings, path: Path, there: dict[str, Array], ends: NDArray[np.int64]) -> None:
    """Raises UserError where the arrays do not fit each other."""
    lead = (int(ends[-1]) if len(ends) else 0,) if settings.sizes else there[settings.positions].shape[:2]
    fits = there[settings.positions].shape == (*lead, 3)
    if settings.features is not None:
        fits &= there[settings.features].shape[:-1] == lead
    if settings.labels is not None:
        fits &= there[settings.labels].shape[:1] == (len(ends),)
    if not fits:
        found = ", ".join(f"{name} {array.shape}" for name, array in there.items())
        raise UserError(
            f"{path}: {found} do not fit each other",
            allowed="positions (N, P, 3), features (N, P, F); with sizes (N,) instead (all points, 3) and (all, F)",
        )


NPZ_POINTS = Source(kind=of_kind("points"), settings=NpzPointsSettings, plan=plan, read=read)
