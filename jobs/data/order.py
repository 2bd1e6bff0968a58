"""Which samples a step sees: a pure function of (seed, step), the same for any number of workers.

The stream of samples is one random permutation of the dataset after another. Step s of global batch B takes the
positions [s B, (s+1) B) of that stream, and rank r of W the r-th part of it. So the state of the reader is the
number of steps done; there is nothing to replay on resume.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=4)
def epoch_permutation(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of all samples in one epoch. Returns (samples,)."""
    order = np.random.default_rng((seed, epoch)).permutation(samples).astype(np.int64)
    order.setflags(write=False)  # it is shared by all callers of the cache
    return order


def global_batch(step: int, *, samples: int, batch: int, seed: int) -> NDArray[np.int64]:
    """Indices of the samples of one step, all workers together. Returns (batch,)."""
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs, places = np.divmod(positions, samples)
    return np.array([epoch_permutation(samples, seed, int(e))[p] for e, p in zip(epochs, places, strict=True)])


def rank_batch(step: int, *, samples: int, batch: int, seed: int, rank: int, size: int) -> NDArray[np.int64]:
    """The part of `global_batch` that belongs to one rank; `batch` is a multiple of `size`. Returns (batch / size,)."""
    share = batch // size
    return global_batch(step, samples=samples, batch=batch, seed=seed)[rank * share : (rank + 1) * share]
