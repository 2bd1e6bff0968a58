"""Lattices of structures that are periodic in all, some or no directions.

Shapes: B structures, N atoms together, n atoms of one. Rows of a cell are lattice vectors, in angstrom; `pbc` says
which of the three repeat. An image S, three integers, is the translation S @ cell.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLAT = 1e-8  # smallest singular value of the directions of a cell that is not taken for singular
MOST_IMAGES = 1e6  # within the cutoff
LONG = 50  # reaches; in shorter cells gaps are left as they are
FARTHEST = 2**30  # images an atom may be away from the cell; beyond, its position within has no digits left


def completed(cells: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """Cells (B, 3, 3) whose rows of directions that do not repeat are unit vectors at right angles to all others.

    cells (B, 3, 3); pbc (B, 3). What the rows of other directions held does not matter.
    Raises ValueError when the rows that repeat span no volume.
    """
    rows = np.where(pbc[:, :, None], cells, 0.0)
    if not np.isfinite(rows).all():
        raise ValueError("a cell holds a value that is not finite")
    lengths = np.linalg.norm(rows, axis=2, keepdims=True)
    _, widths, basis = np.linalg.svd(rows / np.where(lengths > 0, lengths, 1.0))
    narrowest = np.take_along_axis(widths, np.maximum(pbc.sum(axis=1) - 1, 0)[:, None], axis=1)[:, 0]
    singular = np.flatnonzero(pbc.any(axis=1) & ~(narrowest > FLAT))
    if len(singular):
        cell = cells[singular[0]].tolist()
        raise ValueError(f"the cell {cell} is singular: lattice vectors of periodic directions must be independent")
    # The last rows of the basis are at right angles to every row that repeats.
    spare = np.clip(3 - np.cumsum(~pbc, axis=1), 0, 2)
    return np.where(pbc[:, :, None], rows, np.take_along_axis(basis, spare[:, :, None], axis=1))


def widths(cells: Floats) -> Floats:
    """(B, 3), the distance from a plane of two lattice vectors to the next, along the third, of cells (B, 3, 3)."""
    apart: Floats = 1 / np.linalg.norm(np.linalg.inv(cells), axis=1)
    return apart


def require_few_images(cells: Floats, pbc: NDArray[np.bool_], cutoff: float) -> None:
    """Raises ValueError for a cell so small that no computer could list the pairs.

    cells (B, 3, 3) completed; pbc (B, 3).
    """
    images = np.where(pbc, 2 * np.ceil(cutoff / widths(cells)) + 1, 1).prod(axis=1)
    if images.max(initial=1) > MOST_IMAGES:
        cell = cells[images.argmax()].tolist()
        raise ValueError(
            f"the cell {cell} is so small that {images.max():.0e} images of an atom are within {cutoff} angstrom; "
            f"allowed: {MOST_IMAGES:.0e} (are the lattice vectors in angstrom?)"
        )


def translation(images: NDArray[Any], cells: Floats, owner: NDArray[np.int64], axis: int) -> Floats:
    """(m,), the component along `axis` of images (3, m) times the cells (B, 3, 3) of their structures, owner (m,).

    Summed in one order, so that -S gives the negative of S in every bit.
    """
    a, b, c = (images[row] * cells[:, row, axis].take(owner) for row in range(3))
    total: Floats = (a + b) + c
    return total


def images_of(positions: Floats, cells: Floats, pbc: NDArray[np.bool_], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3, N) integers, the image of the cell that each atom is in; zero along directions that do not repeat.

    positions (3, N); cells (B, 3, 3) completed; pbc (B, 3); owner (N,), the structure of each atom.
    Raises ValueError for atoms too far away.
    """
    inverses = np.asarray(np.linalg.inv(cells), dtype=np.float64)
    images = np.floor(np.stack([translation(positions, inverses, owner, axis) for axis in range(3)]))
    images[~pbc.T.take(owner, axis=1)] = 0
    if not (np.abs(images) <= FARTHEST).all():
        raise ValueError(f"an atom is more than {FARTHEST} cells away from the cell")
    return images.astype(np.int64)


def boxed(positions: Floats, cell: Floats, pbc: NDArray[np.bool_], reach: float) -> tuple[Floats, Floats]:
    """Positions and a cell periodic in all directions in which the same atoms are within `reach` of each other.

    positions (n, 3) within the cell where it repeats; cell (3, 3) completed; n >= 1. Directions that do not repeat get
    a period longer than the structure by twice the reach. There, and in cells that are long, gaps are cut to that size:
    a lone atom far away costs no time.
    """
    if pbc.all() and np.linalg.norm(cell, axis=1).max() <= LONG * reach:
        return positions, cell
    inverse, box = np.linalg.inv(cell), cell.copy()
    for axis in range(3):
        width = 1 / float(np.linalg.norm(inverse[:, axis]))  # between the planes of the other two vectors
        if pbc[axis] and width <= LONG * reach:
            continue
        height = positions @ inverse[:, axis] * width
        order = np.argsort(height)
        last = height[order[0]] + width - height[order[-1]] if pbc[axis] else 2 * reach
        gaps = np.append(np.diff(height[order]), last)
        cut = np.maximum(gaps - 2 * reach, 0.0)
        moved = np.zeros_like(height)
        moved[order[1:]] = np.cumsum(cut[:-1])
        # Along the lattice vector, so that nothing changes between the planes of the others.
        positions = positions - moved[:, None] * (cell[axis] / width)
        box[axis] *= float((gaps - cut).sum()) / width
    return positions, box
