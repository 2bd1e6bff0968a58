"""Batches of images, and the scale that a diffusion model sees them on.

Shapes: B images, C channels, H x W pixels.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equimodels.errors import SettingError, require


@dataclass(frozen=True)
class ImageBatch:
    """pixels: (B, C, H, W), in the units of the dataset. labels: (B,) int64."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "ImageBatch":
        """The batch elsewhere; `dtype` is that of the pixels, labels stay integers."""
        return ImageBatch(self.pixels.to(device=device, dtype=dtype), self.labels.to(device=device))


@dataclass(frozen=True)
class PixelScale:
    """Mean and standard deviation of each channel; (C,) numbers in the units of the dataset."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.mean) == len(self.std) > 0, "std", self.std, f"one number a channel, like mean {self.mean}")
        require(all(s > 0 for s in self.std), "std", self.std, "positive: a constant channel cannot be learned")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The scale that `image_facts` found."""
        return cls(tuple(facts["mean"]), tuple(facts["std"]))

    def standardise(self, pixels: Tensor) -> Tensor:
        """pixels: (B, C, H, W) as in the dataset. Returns them with mean 0 and variance 1 over the training images."""
        return (pixels - self._along_channels(self.mean, pixels)) / self._along_channels(self.std, pixels)

    def restore(self, standardised: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return standardised * self._along_channels(self.std, standardised) + self._along_channels(
            self.mean, standardised
        )

    @staticmethod
    def _along_channels(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def image_facts(samples: Iterable[NDArray[Any]]) -> dict[str, Any]:
    """Shape, mean and standard deviation of images (C, H, W), in one pass and in float64.

    Returns {"shape": [C, H, W], "mean": [C numbers], "std": [C numbers]}. Raises SettingError where there are no
    images, or they differ in shape.
    """
    shape: tuple[int, ...] | None = None
    count, total, squares = 0, np.zeros(0), np.zeros(0)
    for sample in samples:
        pixels = np.asarray(sample, dtype=np.float64)
        if shape is None:
            shape = pixels.shape
            require(len(shape) == 3, "shape", shape, "(channels, height, width)")
            origin = pixels.mean(axis=(1, 2))  # sums of differences from it lose no digits, wherever the mean is
            total, squares = np.zeros(shape[0]), np.zeros(shape[0])
        require(pixels.shape == shape, "shape", pixels.shape, f"the shape of the first image, {shape}")
        difference = pixels - origin[:, None, None]
        total += difference.sum(axis=(1, 2))
        squares += (difference**2).sum(axis=(1, 2))
        count += pixels[0].size
    if shape is None:
        raise SettingError("samples", 0, "at least one image")
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return {"shape": list(shape), "mean": (mean + origin).tolist(), "std": std.tolist()}
