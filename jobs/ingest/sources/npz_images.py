"""Pictures in an npz archive, such as the usual MNIST one: an array of pixels and one of labels, for each split."""

from pathlib import Path

import numpy as np

from cluster.errors import UserError
from jobs.ingest.columns import numbered, table_of
from jobs.ingest.finding import given_file
from jobs.ingest.npz import require, rows
from jobs.ingest.pictures import Layout, check_pixels, label_column, layout_of, pixel_column
from jobs.ingest.source import UNASSIGNED, Part, Piece, Settings, Source, of_kind, row_runs


class NpzImagesSettings(Settings):
    """Which arrays of the archive are what."""

    file: str
    images: str = "x_train"
    labels: str | None = "y_train"  # null: none
    test_images: str | None = None  # every picture of it goes to the test split, such as x_test
    test_labels: str | None = None
    layout: Layout | None = None  # of one picture; without: told by its shape


def plan(settings: NpzImagesSettings, folder: Path) -> list[Piece]:
    """Runs of pictures. Raises NotFoundError, UserError for a file of another format."""
    (file,) = given_file(folder, settings.file)
    pairs = [(settings.images, settings.labels, UNASSIGNED)]
    if settings.test_images is not None:
        pairs.append((settings.test_images, settings.test_labels, "test"))
    if len({labels is None for _, labels, _ in pairs}) > 1:
        raise UserError("labels of one split only", allowed="labels and test_labels, or neither (null)")
    pieces, shapes = [], set()
    for images, labels, split in pairs:
        there = require(file.path, *(name for name in (images, labels) if name is not None))
        shape, where = there[0].shape, f"{file.path}, array {images!r}"
        check_pixels(there[0].dtype, where)
        layout = layout_of(shape, settings.layout, where)
        if len(there) > 1 and there[1].shape[:1] != shape[:1]:
            raise UserError(f"{where} has {shape[0]} rows, {labels!r} has {there[1].shape[:1]}")
        shapes.add((shape[1:], there[0].dtype))
        width = int(np.prod(shape[1:])) * there[0].dtype.itemsize
        for run in row_runs(shape[0], width):
            detail = {"images": images, "labels": labels, "layout": layout, "split": split}
            pieces.append(file.piece(run.start, run.stop, first=run.start, rows=len(run), detail=detail))
    if len(shapes) > 1:
        raise UserError(f"{file.path}: pictures of several shapes or types: {sorted(map(str, shapes))}", allowed="one")
    return pieces


def read(settings: NpzImagesSettings, piece: Piece) -> Part:
    """The pictures of the piece."""
    images, labels, split = (piece.detail[name] for name in ("images", "labels", "split"))
    path = Path(piece.file)
    columns = {"pixels": pixel_column(rows(path, images, piece.begin, piece.end), piece.detail["layout"])}
    if labels is not None:
        columns["label"] = label_column(rows(path, labels, piece.begin, piece.end), f"{piece.shown}, {labels!r}")
    ids = numbered(split or "train", np.arange(piece.begin, piece.end))
    return Part(table_of(ids, columns, split), lambda row: f"{piece.shown}, {images!r} row {piece.begin + row}")


NPZ_IMAGES = Source(kind=of_kind("images"), settings=NpzImagesSettings, plan=plan, read=read)
