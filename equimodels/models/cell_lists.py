"""Close pairs of large structures, periodic or not, by cell lists, through the library vesin.

Shapes: C structures, m directed pairs. Lengths in angstrom. The library looks for pairs within a little more than the
cutoff; which of them count is decided here, in coordinates as they were given.
"""

import math
from typing import NamedTuple

import numpy as np
from vesin import NeighborList

from equimodels.models.all_pairs import COINCIDENT, Floats, Integers
from equimodels.models.crystals import Crystals
from equimodels.models.lattice import boxed

ROUNDING = 1e-6  # angstrom by which the library looks farther than the cutoff
LARGEST_KEY = 2**62  # above, a pair with its shift does not fit one integer to sort by
MOST_CELLS = 1e5  # MAX_NUMBER_OF_CELLS of vesin 0.6


class ListedPairs(NamedTuple):
    """senders (m,), receivers (m,) and shifts (3, m), by structure, sender, receiver and shift; counts (C,) of each."""

    senders: Integers
    receivers: Integers
    shifts: Integers
    counts: Integers


def pairs_by_cell_list(crystals: Crystals, cutoff: float) -> ListedPairs:
    """Pairs of atoms no farther apart than `cutoff` in coordinates as given; one call of the library a structure.

    Raises CoincidentError, with numbers among all atoms.
    """
    one, two, shift = _candidates(crystals, cutoff + ROUNDING + crystals.rounding())
    squared = crystals.squared_distances(one, two, crystals.images(one, two, shift))
    where, kept = crystals.owner[one], squared <= cutoff**2
    for axis in range(3):  # a shift where nothing repeats belongs to the box that the library was given
        kept &= (shift[axis] == 0) | crystals.pbc[:, axis].take(where)
    close = np.flatnonzero(kept & (squared < COINCIDENT**2))
    if len(close):
        raise crystals.coincident(int(one[close[0]]), int(two[close[0]]), shift[:, close[0]])
    if not kept.all():
        one, two, shift = one[kept], two[kept], shift[:, kept]
    sender, receiver, shift = _both_directions(one, two, shift, len(crystals.atoms))
    counts = np.diff(np.searchsorted(sender, np.append(crystals.first, len(crystals.atoms))))
    return ListedPairs(sender, receiver, shift, counts)


def _candidates(crystals: Crystals, reach: float) -> tuple[Integers, Integers, Integers]:
    """Pairs (m,), (m,) in one direction with shifts (3, m): all within `reach`, and maybe some that are not."""
    inside = np.ascontiguousarray(crystals.inside.T)
    # One thread, since its pool of threads serves one call at a time; callers have threads of their own.
    library = NeighborList(cutoff=reach, full_list=False, n_threads=1)
    pairs, shifts = [np.empty((0, 2), dtype=np.int64)], [np.empty((0, 3), dtype=np.int32)]
    for number, (start, size) in enumerate(zip(crystals.first, crystals.sizes, strict=True)):
        points, box = boxed(inside[start : start + size], crystals.cells[number], crystals.pbc[number], reach)
        library.cutoff = _search_radius(box, reach)
        found, shift = library.compute(points=points, box=box, periodic=True, quantities="PS", copy=False)
        pairs.append(found.astype(np.int64) + start)  # the library's own memory, overwritten by the next call
        shifts.append(shift.copy())
    one, two = np.ascontiguousarray(np.concatenate(pairs).T)
    return one, two, np.ascontiguousarray(np.concatenate(shifts).T, dtype=np.int64)


def _both_directions(one: Integers, two: Integers, shift: Integers, atoms: int) -> tuple[Integers, Integers, Integers]:
    """Pairs (m,), (m,) and shifts (3, m) and their mirror images, sorted by sender, receiver and shift."""
    largest = np.abs(shift).max(axis=1, initial=0).tolist()
    if math.prod([atoms, atoms, *(2 * most + 1 for most in largest)]) > LARGEST_KEY:
        columns = np.hstack([np.stack([one, two, *shift]), np.stack([two, one, *-shift])])
        columns = columns[:, np.lexsort(columns[::-1])]
        return columns[0], columns[1], columns[2:]
    # As one integer each they are sorted ten times as fast, and nothing has to be gathered.
    key = np.concatenate([one * atoms + two, two * atoms + one])
    shifts = np.zeros((3, len(key)), dtype=np.int64)
    moving = [axis for axis in range(3) if largest[axis]]
    for axis in moving:
        key *= 2 * largest[axis] + 1
        key += largest[axis]
        key[: len(one)] += shift[axis]
        key[len(one) :] -= shift[axis]
    key.sort()
    for axis in reversed(moving):
        rest = key // (2 * largest[axis] + 1)
        np.subtract(key, rest * (2 * largest[axis] + 1) + largest[axis], out=shifts[axis])
        key = rest
    sender = key // atoms
    return sender, key - sender * atoms, shifts


def _search_radius(box: Floats, reach: float) -> float:
    """At least `reach`, and such that vesin 0.6 divides the box into one cell or more along each direction.

    It bounds the number of cells by a formula that rounds to none for boxes a million times longer than wide; the
    process then dies of a division by zero.
    """
    widths = (1 / np.linalg.norm(np.linalg.inv(box), axis=0)).tolist()
    while True:
        a, b, c = (max(1.0, width // reach) for width in widths)
        if a * b * c <= MOST_CELLS:
            return reach
        fewer_c = math.cbrt(MOST_CELLS / ((a / b) * (b / c) ** 2)) // 1
        fewer_b = (b / c * fewer_c) // 1
        if min(fewer_c, fewer_b, a / b * fewer_b) >= 1:
            return reach
        reach *= 2
