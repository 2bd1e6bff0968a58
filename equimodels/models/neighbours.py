"""Which atoms lie within the cutoff of each other, in structures with and without periodicity.

Shapes: B structures, N atoms together, E directed pairs. Lengths in angstrom. The result is the same whichever way it
is found and whatever the company: pair (i, j, S) counts when (x^2 + y^2) + z^2 <= cutoff^2 in float64, with
(x, y, z) = (r_j - r_i) + S @ cell.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from equimodels.models.all_pairs import COINCIDENT, CoincidentError, Flags, Floats, Integers
from equimodels.models.pair_search import search


class Pairs(NamedTuple):
    """edges (2, e) [sender, receiver]; images (e, 3), lattice translations S of r_receiver - r_sender + S @ cell."""

    edges: Integers
    images: Integers


class ManyPairs(NamedTuple):
    """edges (2, E), atoms numbered through all structures; images (E, 3); edges_per_structure (B,)."""

    edges: Integers
    images: Integers
    edges_per_structure: Integers


def neighbour_pairs(
    positions: NDArray[Any], cutoff: float, cell: NDArray[Any] | None = None, pbc: NDArray[Any] | None = None
) -> Pairs:
    """positions (n, 3); cell (3, 3), rows are lattice vectors; pbc (3,), all True unless given with a cell.

    Pairs at exactly the cutoff count. Each pair is there in both directions, an atom and an image of itself too. Sorted
    by sender, receiver, then image, so that sums over edges run in the same order on every machine.
    Raises ValueError when a shape is wrong, a value is not finite, the cell is singular or two atoms coincide.
    """
    positions = np.asarray(positions, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions have shape {positions.shape}; allowed: (n, 3), in angstrom")
    cells, repeats = (None if value is None else np.asarray(value)[None] for value in (cell, pbc))
    found = neighbour_pairs_of_many(positions, np.array([len(positions)]), cutoff, cells, repeats)
    return Pairs(found.edges, found.images)


def neighbour_pairs_of_many(
    positions: NDArray[Any],
    sizes: NDArray[Any],
    cutoff: float,
    cells: NDArray[Any] | None = None,
    pbc: NDArray[Any] | None = None,
) -> ManyPairs:
    """The pairs of `neighbour_pairs` of every structure, structure after structure.

    positions (N, 3), one structure after the other; sizes (B,), their numbers of atoms; cells (B, 3, 3); pbc (B, 3).
    Time and memory grow with N and E. Safe to call from many threads, which run at the same time.
    Raises ValueError as `neighbour_pairs` does, naming the structure of atoms that coincide.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    sizes = np.asarray(sizes, dtype=np.int64)
    if sizes.ndim != 1 or (sizes < 0).any() or positions.shape != (int(sizes.sum()), 3):
        raise ValueError(
            f"positions have shape {positions.shape} and sizes {sizes.shape}; allowed: (N, 3), in angstrom, and (B,) "
            "of numbers of atoms that add up to N"
        )
    if not np.isfinite(positions).all():
        raise ValueError("positions hold a value that is not finite")
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"the cutoff is {cutoff}; allowed: positive, in angstrom")
    lattice, repeats = _lattices(len(sizes), cells, pbc)
    try:
        found = list(search(positions, sizes, cutoff, lattice, repeats))
    except CoincidentError as error:
        raise ValueError(_named(error, sizes)) from None
    counts = np.zeros(len(sizes), dtype=np.int64)
    for part in found:
        counts[part.structures] = part.counts
    starts, total = np.cumsum(counts) - counts, int(counts.sum())
    edges, images = np.empty((2, total), dtype=np.int64), np.zeros((total, 3), dtype=np.int64)
    sender, receiver = edges  # as two arrays they are written to twice as fast as through one index of both
    for part in found:
        place = _places(part.structures, part.counts, starts)
        sender[place], receiver[place], *seen = part.pairs()
        for shifts in seen:
            images[place] = shifts.T
    return ManyPairs(edges, images, counts)


def _places(structures: Integers, counts: Integers, starts: Integers) -> slice | Integers:
    """Where the pairs of some structures, `counts` (k,) each and one after the other, go; all start at starts (B,)."""
    begin, total = starts[structures], int(counts.sum())
    if (np.diff(structures) == 1).all():
        return slice(int(begin[0]), int(begin[0]) + total)
    scattered: Integers = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(total)
    return scattered


def _named(error: CoincidentError, sizes: Integers) -> str:
    """What coincides, with the number of the structure if there are several, and of the atoms within it."""
    ends = np.cumsum(sizes)
    structure = int(np.searchsorted(ends, error.one, side="right"))
    one, two = (atom - int(ends[structure] - sizes[structure]) for atom in (error.one, error.two))
    where = f"structure {structure}: " if len(sizes) > 1 else ""
    which = f"atom {one} and a periodic image of atom {two}" if error.image else f"atoms {one} and {two}"
    return f"{where}{which} coincide (closer than {COINCIDENT} angstrom)"


def _lattices(count: int, cells: NDArray[Any] | None, pbc: NDArray[Any] | None) -> tuple[Floats, Flags]:
    """Cells (B, 3, 3) and directions (B, 3) that repeat: none without cells, all where only cells are given."""
    repeats = np.full((count, 3), cells is not None) if pbc is None else np.asarray(pbc).astype(np.bool_)
    lattice = np.zeros((count, 3, 3)) if cells is None else np.asarray(cells, dtype=np.float64)
    if repeats.shape != (count, 3):
        raise ValueError(f"pbc has shape {repeats.shape[1:]}; allowed: (3,), whether a lattice vector repeats")
    if lattice.shape != (count, 3, 3):
        raise ValueError(f"the cell has shape {lattice.shape[1:]}; allowed: (3, 3), rows are lattice vectors")
    if cells is None and repeats.any():
        raise ValueError("pbc says that directions repeat, but there is no cell")
    return lattice, repeats
