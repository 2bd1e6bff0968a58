"""The digits bundled with scikit-learn: 1,797 grey images of 8 x 8 pixels (Alpaydin and Kaynak 1998)."""

import importlib.metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.ingest.columns import table_of, tensors
from jobs.ingest.source import UNASSIGNED, Part, Piece, Settings, Source, of_kind, programs

_BRIGHTEST = 16.0  # the pixels count set dots in 4 x 4 blocks
_ROWS = 1797


class DigitsSettings(Settings):
    """Nothing to set: the images come with the library."""


def plan(settings: DigitsSettings, folder: Path) -> list[Piece]:
    """All of them at once."""
    version = importlib.metadata.version("scikit-learn")
    return [Piece("", "sklearn.datasets", "digit", UNASSIGNED, 0, _ROWS, rows=_ROWS, stamp=version)]


def read(settings: DigitsSettings, piece: Piece) -> Part:
    """Images (1, 8, 8), pixels from 0 to 1; the label is the digit."""
    from sklearn.datasets import load_digits  # half a second to import: only this source pays it

    bunch = load_digits()
    pixels = (bunch.images / _BRIGHTEST).astype(np.float32)[:, None]
    numbers = pc.utf8_lpad(pc.cast(pa.array(np.arange(len(pixels))), pa.string()), 4, "0")
    ids = pc.binary_join_element_wise(pa.scalar("digit"), numbers, "-")
    columns = {"pixels": tensors(pixels), "label": pa.array(bunch.target.astype(np.int64))}
    return Part(table_of(ids, columns), lambda row: f"image {row}")


DIGITS = Source(
    kind=of_kind("images"),
    settings=DigitsSettings,
    plan=plan,
    read=read,
    about=lambda settings, pieces: {
        "origin": "sklearn.datasets.load_digits",
        **programs("scikit-learn")(settings, pieces),
    },
)
