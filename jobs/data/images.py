"""Labelled images of a dataset as batches of tensors."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from cluster.dataset.schema import image_shape
from equimodels.models.images import ImageBatch


class ImageSet:
    """Labelled images."""

    def __init__(self, table: pa.Table) -> None:
        shape = image_shape(table.schema)
        flat = table["pixels"].combine_chunks()
        values = flat.flatten().to_numpy(zero_copy_only=False)
        self._ids = table["id"].to_pylist()
        self._pixels = torch.from_numpy(np.array(values, dtype=np.float32).reshape(-1, *shape))
        self._labels = torch.from_numpy(np.array(table["label"].to_numpy(), dtype=np.int64))

    def __len__(self) -> int:
        return len(self._ids)

    def batch(self, indices: Sequence[int]) -> ImageBatch:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return ImageBatch(self._pixels[chosen].to(torch.get_default_dtype()), self._labels[chosen])

    def identifiers(self, indices: Sequence[int]) -> list[str]:
        return [self._ids[i] for i in indices]

    def facts(self) -> Iterator[NDArray[np.float32]]:
        return iter(self._pixels.numpy())
