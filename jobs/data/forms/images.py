"""Labelled images. Shapes: n images of C channels, H x W pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from cluster.errors import UserError
from equimodels.models.images import ImageBatch
from jobs.data.forms.form import fixed
from jobs.data.rows import Column, Integers, Rows

BRIGHTEST = 255.0  # of a byte; models see it as 1
UNLABELLED = -1


def as_floats(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels as models see them: bytes from 0 to 1, numbers as they are."""
    return np.divide(pixels, BRIGHTEST, dtype=np.float32) if pixels.dtype == np.uint8 else pixels.astype(np.float32)


@dataclass(frozen=True)
class ImageForm:
    """Batches are `ImageBatch`; bytes become numbers from 0 to 1. Where the dataset has no labels they are all -1.

    raw: leave the pixels in the dataset's own type, for who converts them on the device.
    """

    raw: bool = False

    def columns(self, schema: pa.Schema) -> list[str]:
        """Pixels, and labels where there are any."""
        if "pixels" not in schema.names:
            raise UserError("the dataset holds no images; missing column: pixels")
        return [name for name in ("pixels", "label") if name in schema.names]

    def decode(self, table: pa.Table) -> Rows:
        """Pixels (n, C, H, W) and labels (n,)."""
        return Rows(table.num_rows, {name: Column(fixed(table[name])) for name in table.column_names})

    def weights(self, rows: Rows, quantities: frozenset[str]) -> Mapping[str, Integers]:
        """Images all weigh the same: their batches are counted."""
        raise UserError("images have no atoms or edges to limit", hint="give the number of images of a batch")

    @property
    def at_once(self) -> int:
        """Pixels are only copied and scaled."""
        return 2048

    def prepare(self, rows: Rows) -> Rows:
        """Pixels in the type of models."""
        return rows if self.raw else rows.replaced(pixels=Column(as_floats(rows["pixels"].values)))

    def batch(self, rows: Rows) -> ImageBatch:
        """Pixels float32, or as they are in the dataset; labels int64."""
        pixels = torch.from_numpy(rows["pixels"].values)
        if "label" not in rows:
            return ImageBatch(pixels, torch.full((len(rows),), UNLABELLED))
        return ImageBatch(pixels, torch.from_numpy(rows["label"].values))
