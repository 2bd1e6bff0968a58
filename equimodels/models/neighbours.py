"""Which atoms lie within the cutoff of each other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

COINCIDENT = 1e-6  # angstrom; below, the direction of an edge has no meaning


def neighbour_pairs(positions: NDArray[Any], cutoff: float) -> NDArray[np.int64]:
    """positions: (n, 3) angstrom. Returns (2, e) int64, rows sender and receiver, each pair in both directions.

    Pairs at exactly the cutoff count. Sorted by sender, then receiver, so that
    sums over edges run in the same order on every machine. No periodicity.
    Raises ValueError when the shape is wrong, a coordinate is not finite or two atoms coincide.
    """
    positions = np.asarray(positions, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions have shape {positions.shape}; allowed: (n, 3), in angstrom")
    if not np.isfinite(positions).all():
        raise ValueError("positions hold a value that is not finite")
    if len(positions) == 0:
        return np.empty((2, 0), dtype=np.int64)
    pairs = cKDTree(positions).query_pairs(cutoff, output_type="ndarray")
    distance = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    if len(distance) and distance.min() < COINCIDENT:
        first, second = pairs[distance.argmin()]
        raise ValueError(f"atoms {first} and {second} coincide (closer than {COINCIDENT} angstrom)")
    both = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int64)
    order = np.lexsort((both[:, 1], both[:, 0]))
    return np.ascontiguousarray(both[order].T)
