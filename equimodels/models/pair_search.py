"""The close pairs of structures, each found in the way that is fastest for it.

Shapes: B structures, N atoms together, k structures of a part, m pairs of it. Lengths in angstrom.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from equimodels.models.all_pairs import Block, Flags, Floats, Integers, Points, close_pairs
from equimodels.models.cell_lists import pairs_by_cell_list
from equimodels.models.crystals import Crystals
from equimodels.models.image_pairs import image_pairs, images_near
from equimodels.models.lattice import completed, require_few_images, widths

SMALL = 512  # atoms up to which looking at all SMALL * SMALL pairs is faster than a cell list
TOGETHER = 200_000  # images, of 100 bytes, made at a time
LISTED = 20_000  # atoms whose pairs are listed at a time

Numbers = NDArray[np.integer[Any]]


class Found(NamedTuple):
    """Pairs of structures (k,), counts (k,) of each one after the other, by sender, receiver, image.

    `pairs` makes them: senders (m,) and receivers (m,), numbers among all atoms, and images (3, m), or () if all zero.
    """

    structures: Integers
    counts: Integers
    pairs: Callable[[], tuple[Numbers, ...]]


def search(positions: Floats, sizes: Integers, cutoff: float, lattice: Floats, pbc: Flags) -> Iterator[Found]:
    """Each structure that has pairs is in one part of the answer.

    positions (N, 3); sizes (B,); lattice (B, 3, 3); pbc (B, 3). Raises CoincidentError with numbers among all atoms,
    and ValueError for a cell that is singular or tiny and for atoms far beyond it.
    """
    plain = ~pbc.any(axis=1) & (sizes <= SMALL)
    yield from _among_atoms(positions, sizes, np.flatnonzero(plain), cutoff)
    others = np.flatnonzero(~plain & (sizes > 0))
    if not len(others):
        return
    cells, pbc, own = completed(lattice[others], pbc[others]), pbc[others], sizes[others]
    require_few_images(cells, pbc, cutoff)
    share = np.where(pbc, cutoff / widths(cells), 0.0)
    images = own * (2 * np.ceil(share) + 1).prod(axis=1)
    pairs = own**2 * (2 * share + 1).prod(axis=1)
    few = (pairs <= SMALL**2) & (images <= TOGETHER)
    for way, which, weight, most in ((_among_images, few, images, TOGETHER), (_by_cell_list, ~few, own, LISTED)):
        chosen = np.flatnonzero(which)
        breaks = np.flatnonzero(np.diff(np.cumsum(weight[chosen]) // most)) + 1
        for part in np.split(chosen, breaks) if len(chosen) else ():
            crystals = Crystals.of(positions, sizes, others[part], cells[part], pbc[part])
            yield from way(crystals, others[part], cutoff)


def _among_atoms(positions: Floats, sizes: Integers, chosen: Integers, cutoff: float) -> Iterator[Found]:
    atoms = Points(np.ascontiguousarray(positions.T), (np.cumsum(sizes) - sizes)[chosen], sizes[chosen])
    for block in close_pairs(atoms, atoms, np.arange(len(positions)), cutoff):
        yield Found(chosen[block.structures], block.counts, partial(tuple, (block.senders, block.receivers)))


def _among_images(crystals: Crystals, chosen: Integers, cutoff: float) -> Iterator[Found]:
    images = images_near(crystals, cutoff + crystals.rounding())

    def pairs(block: Block) -> tuple[Numbers, ...]:
        receivers, shifts = images.atom.take(block.receivers), images.shift.take(block.receivers, axis=1)
        return _as_given(crystals, block.senders, receivers, shifts)

    for block in image_pairs(crystals, images, cutoff):
        yield Found(chosen[block.structures], block.counts, partial(pairs, block))


def _by_cell_list(crystals: Crystals, chosen: Integers, cutoff: float) -> Iterator[Found]:
    listed = pairs_by_cell_list(crystals, cutoff)
    pairs = partial(_as_given, crystals, listed.senders, listed.receivers, listed.shifts)
    yield Found(chosen, listed.counts, pairs)


def _as_given(crystals: Crystals, senders: Numbers, receivers: Numbers, shifts: Integers) -> tuple[Numbers, ...]:
    atoms = crystals.atoms
    return atoms.take(senders), atoms.take(receivers), crystals.images(senders, receivers, shifts)
