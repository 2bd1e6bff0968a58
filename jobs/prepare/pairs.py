"""Neighbour lists as columns.

edges: a list of 2e numbers, sender and receiver of each pair in turn, atoms counted from 0 in each structure;
images: where the dataset repeats, a list of 3e lattice translations S: the pair is r_receiver - r_sender + S @ cell.
The order is that of `equimodels.models.neighbours`. Both fields say the cutoff in angstrom.
"""

import numpy as np
import pyarrow as pa

from cluster.dataset.tensors import tensor_numpy
from cluster.errors import UserError
from equimodels.models.neighbours import neighbour_pairs, neighbour_pairs_of_many
from jobs.ingest.columns import flat_values, list_lengths, lists
from jobs.prepare.step import placed

FARTHEST = 127  # lattice vectors away, in an 8-bit number


def with_neighbours(table: pa.Table, cutoff: float) -> pa.Table:
    """The rows with their neighbour lists, in place of those they may have."""
    sizes = list_lengths(table["numbers"])
    positions = flat_values(table["positions"]).reshape(-1, 3)
    periodic = "pbc" in table.column_names
    cells, pbc = (tensor_numpy(table[name]) if periodic else None for name in ("cell", "pbc"))
    try:
        found = neighbour_pairs_of_many(positions, sizes, cutoff, cells, pbc)
    except ValueError as error:
        raise UserError(_culprit(table, cutoff) or str(error)) from error
    counts = found.edges_per_structure
    local = found.edges - np.repeat(np.cumsum(sizes) - sizes, counts)
    metadata = {"cutoff": repr(float(cutoff))}  # angstrom
    edges = lists(np.ascontiguousarray(local.T).astype(np.uint32), 2 * counts)
    table = placed(table, "edges", edges, {**metadata, "meaning": "sender and receiver of each pair in turn"})
    if not periodic:
        return table
    if found.images.size and np.abs(found.images).max() > FARTHEST:
        raise UserError(
            f"a cutoff of {cutoff:g} angstrom reaches {np.abs(found.images).max()} cells away",
            allowed=f"at most {FARTHEST}",
            hint="is the lattice in angstrom?",
        )
    images = lists(found.images.astype(np.int8), 3 * counts)
    meaning = "lattice translation of each pair's receiver, in cells"
    return placed(table, "images", images, {**metadata, "meaning": meaning})


def _culprit(table: pa.Table, cutoff: float) -> str | None:
    """Which row cannot be done and why, searched one by one."""
    for row in range(table.num_rows):
        one = table.slice(row, 1)
        periodic = "pbc" in table.column_names
        cell, pbc = (tensor_numpy(one[name])[0] if periodic else None for name in ("cell", "pbc"))
        try:
            neighbour_pairs(flat_values(one["positions"]).reshape(-1, 3), cutoff, cell, pbc)
        except ValueError as error:
            return f"structure {one['id'][0].as_py()!r} has no neighbour list: {error}"
    return None
