"""Embeddings of images: pooled features of a representation model, scaled to length 1.

Shapes: C channels, H rows, W columns of one image; D length of the embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve.rejection import RejectedError

Image = Sequence[Any]  # nested lists of floats, checked by the schema


class EmbeddingPredictor:
    """A representation model behind the `Predictor` protocol."""

    def __init__(
        self,
        embed: Callable[[Tensor], Tensor],
        *,
        shape: Sequence[int],
        space: str,
        facts: Mapping[str, Any],
        budget: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """embed: (B, C, H, W) -> (B, D). shape: (C, H, W). space: names the vector space. budget: pixels in a
        batch."""
        channels, rows, columns = shape
        self.space = space
        self._embed, self._shape, self._budget = embed, (int(channels), int(rows), int(columns)), budget
        self._device, self._dtype = device, dtype
        (trial,) = self.predict([self.probe()])
        if isinstance(trial, Exception):
            raise trial
        self.dim = len(trial)
        self.facts: Mapping[str, Any] = {
            **facts,
            "shape": list(self._shape),
            "space": space,
            "dim": self.dim,
            "normalised": True,
        }

    def prepare(self, raw: Image) -> NDArray[np.float32]:
        """(C, H, W), (H, W) where there is one channel, or flat C*H*W. Raises RejectedError (422)."""
        try:
            pixels = np.asarray(raw, dtype=np.float64)
        except ValueError as error:
            raise RejectedError(422, "ragged", "rows of one image have different lengths") from error
        channels, rows, columns = self._shape
        plain = channels == 1 and pixels.shape == (rows, columns)
        flat = pixels.ndim == 1 and pixels.size == channels * rows * columns
        if pixels.shape != self._shape and not plain and not flat:
            message = f"the image has shape {pixels.shape}; the model takes {self._shape}: channels, rows, columns"
            raise RejectedError(422, "wrong_shape", message)
        if not (np.abs(pixels) <= np.finfo(np.float32).max).all():  # NaN compares false, so it is caught too
            raise RejectedError(422, "bad_pixel", "a pixel is not a finite float32 number")
        return pixels.reshape(self._shape).astype(np.float32)

    def cost(self, item: NDArray[np.float32]) -> int:
        """Pixels, all channels."""
        return int(item.size)

    def predict(self, items: list[NDArray[np.float32]]) -> list[NDArray[np.float64] | Exception]:
        """(D,) each, of Euclidean length 1. An image whose features are not finite, or all zero, fails alone."""
        with torch.no_grad():
            features = self._embed(torch.from_numpy(np.stack(items)).to(device=self._device, dtype=self._dtype))
        vectors: NDArray[np.float64] = features.detach().double().cpu().numpy()
        lengths = np.linalg.norm(vectors, axis=1)
        return [
            vector / length
            if np.isfinite(length) and length > 0
            else RejectedError(500, "no_direction", "the embedding of this image is not finite, or zero")
            for vector, length in zip(vectors, lengths, strict=True)
        ]

    def probe(self) -> NDArray[np.float32]:
        """A grey ramp."""
        size = int(np.prod(self._shape))
        return np.linspace(0.0, 1.0, size, dtype=np.float32).reshape(self._shape)
