"""Arrays of pictures as the columns of images: uint8 stays uint8, any other number becomes float32.

Shapes: N pictures, C channels, H x W pixels.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError
from jobs.ingest.columns import tensors

Layout = Literal["HW", "HWC", "CHW"]  # of one picture
_CHANNELS = (1, 3, 4)


def layout_of(shape: tuple[int, ...], layout: Layout | None, where: str) -> Layout:
    """How the axes of pictures (N, ...) are to be read. Raises UserError where that cannot be told."""
    axes = len(shape) - 1
    if layout is not None:
        if len(layout) != axes:
            raise UserError(f"{where}: pictures of shape {shape[1:]} are not {layout}", allowed="HW, HWC, CHW")
        return layout
    if axes == 2:
        return "HW"
    first, last = (shape[1] in _CHANNELS, shape[-1] in _CHANNELS) if axes == 3 else (False, False)
    if first == last:
        raise UserError(
            f"{where}: it cannot be told which axis of {shape[1:]} is the channels",
            allowed="layout: HW, HWC or CHW",
        )
    return "CHW" if first else "HWC"


def check_pixels(dtype: np.dtype[Any], where: str) -> None:
    """Raises UserError for numbers that are no pixels."""
    if dtype != np.uint8 and dtype.kind != "f":
        raise UserError(f"{where}: pixels of type {dtype}", allowed="uint8 (0 to 255), or floats")


def pixel_column(pictures: NDArray[Any], layout: Layout) -> Any:
    """The column of pictures (N, ...) as tensors (C, H, W)."""
    if layout == "HW":
        pictures = pictures[:, None]
    elif layout == "HWC":
        pictures = np.moveaxis(pictures, -1, 1)
    return tensors(pictures if pictures.dtype == np.uint8 else pictures.astype(np.float32))


def label_column(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Labels as whole numbers. Raises UserError for any that are not."""
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1 or flat.dtype.kind not in "iub":
        raise UserError(f"{where}: labels {labels.shape} of type {labels.dtype}", allowed="one whole number a row")
    return flat[:, 0].astype(np.int64)
