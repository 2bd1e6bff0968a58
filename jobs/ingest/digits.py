"""The digits bundled with scikit-learn: 1,797 grey images of 8 x 8 pixels (Alpaydin and Kaynak 1998)."""

import importlib.metadata
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from jobs.ingest.reading import UNASSIGNED, Reading
from jobs.ingest.rows import ImageRow

_BRIGHTEST = 16.0  # the pixels count set dots in 4 x 4 blocks


class DigitsSettings(BaseModel):
    """Nothing to set: the images come with the library."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_digits(settings: DigitsSettings, folder: Path) -> Reading:
    """Images (1, 8, 8), pixels from 0 to 1; the label is the digit."""
    from sklearn.datasets import load_digits  # half a second to import: only this reader pays it

    bunch = load_digits()
    pixels = (bunch.images / _BRIGHTEST).astype(np.float32)[:, None]
    rows = [
        ImageRow(id=f"digit-{i:04d}", pixels=image, label=int(label), group=f"digit-{i:04d}", split=UNASSIGNED)
        for i, (image, label) in enumerate(zip(pixels, bunch.target, strict=True))
    ]
    version = importlib.metadata.version("scikit-learn")
    return Reading(
        images=rows,
        provenance={"origin": "sklearn.datasets.load_digits", "programs": {"scikit-learn": version}},
    )
