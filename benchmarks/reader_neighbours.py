"""Structures with their neighbours within 5 angstrom: python benchmarks/reader_neighbours.py [--quick]

As reader_structures.py, but each batch also has its edges (2, E) int64, in both directions. The peers do what fairchem
(ASE-LMDB rows) and NequIP (structures in memory) do: a neighbour list of one structure after another, of ASE or of
matscipy, in a DataLoader with one worker. vesin in their place is the fastest library that this way could have.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structure_peers as peers
import torch
from measuring import Goal, Report, in_turn, options_of, rate, ratio, spread, write
from numpy.typing import NDArray
from synthetic import Sample, Structures, publish_structures, structures
from torch import Tensor
from torch.utils.data import Dataset

from cluster.dataset.dataset import open_dataset
from cluster.store import open_store
from jobs.data.forms import StructureForm
from jobs.data.reader import Reader

CUTOFF = 5.0  # angstrom
OURS = ("ours, first", "ours, decoded")
Finder = Callable[[NDArray[np.float64]], NDArray[np.int64]]


class Connected(NamedTuple):
    """A batch of structures and its edges."""

    atoms: peers.Batch
    edges: Tensor


class WithEdges(Dataset[tuple[Sample, NDArray[np.int64]]]):
    """Samples, each with its edges (2, e)."""

    def __init__(self, rows: Any, find: Finder) -> None:
        self.rows, self.find = rows, find

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Sample, NDArray[np.int64]]:
        sample = self.rows[row]
        return sample, self.find(sample.positions)


def gather(found: Sequence[tuple[Sample, NDArray[np.int64]]]) -> Connected:
    """One batch: edges count the atoms of the whole batch."""
    samples, edges = zip(*found, strict=True)
    starts = np.cumsum([0, *(len(sample.numbers) for sample in samples[:-1])])
    moved = [pairs + start for pairs, start in zip(edges, starts, strict=True)]
    return Connected(peers.collate(samples), torch.from_numpy(np.concatenate(moved, axis=1)))


def ase_finder(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """ASE's neighbour list with shifts and vectors, as NequIP asks for it."""
    from ase.neighborlist import primitive_neighbor_list

    first, second, _ = primitive_neighbor_list("ijS", (False,) * 3, np.eye(3), positions, CUTOFF)
    return np.stack([first, second]).astype(np.int64)


def matscipy_finder(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """matscipy's neighbour list; its cell is a box around the atoms."""
    from matscipy.neighbours import neighbour_list

    low = positions.min(axis=0)
    cell = np.diag(positions.max(axis=0) - low + 1.0)
    first, second, _ = neighbour_list(
        "ijS", positions=positions, cell=cell, pbc=np.zeros(3, dtype=bool), cell_origin=low - 0.5, cutoff=CUTOFF
    )
    return np.stack([first, second]).astype(np.int64)


def vesin_finder(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """vesin's neighbour list."""
    from vesin import NeighborList

    first, second, _ = NeighborList(cutoff=CUTOFF, full_list=True).compute(positions, np.zeros((3, 3)), False, "ijS")
    return np.stack([first, second]).astype(np.int64)


def others(rows: Structures, folder: Path) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """The peers that are installed, and a note on each that is not."""
    found, absent = {}, []
    kinds: dict[str, tuple[Callable[[], Any], Finder]] = {
        "ASE-LMDB, ASE": (lambda: peers.AseRows(rows, folder), ase_finder),
        "in memory, ASE": (lambda: rows, ase_finder),
        "in memory, matscipy": (lambda: rows, matscipy_finder),
        "in memory, vesin": (lambda: rows, vesin_finder),
    }
    for name, (make, find) in kinds.items():
        try:
            check = np.sort(find(rows[0].positions), axis=None)
            if not np.array_equal(check, np.sort(brute(rows[0].positions), axis=None)):
                raise RuntimeError(f"{name} finds other edges")
            found[name] = peers.loader(WithEdges(make(), find), gather=gather, shuffle=True)
        except ImportError as error:
            absent.append(f"{name} was left out: {error}")
    return found, absent


def brute(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """All pairs within the cutoff by all distances."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    return np.stack(np.nonzero((distance < CUTOFF) & ~np.eye(len(positions), dtype=bool)))


def ours(uri: str) -> dict[str, Callable[[], Any]]:
    """Our reader: a new one for every epoch, and one that keeps nothing."""
    form = StructureForm(cutoff=CUTOFF)
    decoded = Reader(open_dataset(uri), batch=peers.BATCH, epochs=1, keep=0, form=form)
    first = partial(Reader, open_dataset(uri), batch=peers.BATCH, epochs=1, form=form)
    return dict(zip(OURS, (first, lambda: decoded), strict=True))


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__, ("--structures", {"type": int, "default": 4000}))
    count, seconds = (640, 0.2) if options.quick else (options.structures, 1.0)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    rows = structures(count)
    edges = float(np.mean([brute(sample.positions).shape[1] for sample, _ in zip(rows, range(200), strict=False)]))
    with tempfile.TemporaryDirectory() as name:
        publish_structures(open_store(f"{name}/store"), rows)
        cases = ours(f"{name}/store/datasets/structures")
        found, notes = others(rows, Path(name) / "ase")
        epochs = {name: partial(_sizes, epoch) for name, epoch in (cases | found).items()}
        figures = in_turn({name: partial(rate, epoch, seconds) for name, epoch in epochs.items()}, options)
    report = Report(
        "reader_neighbours",
        "Reading structures with their neighbours",
        {
            "structures": count,
            "atoms": "16 to 47",
            "cutoff": f"{CUTOFF} angstrom",
            "edges of a structure": round(edges),
            "batch": peers.BATCH,
            "dtype": "float64",
            "unit": "rows/s",
        },
        tables={"Rates": spread(figures, OURS[0])},
        goals=[
            Goal(f"{way} / {peer}", ratio(figures, way, peer), 3)
            for way in OURS
            for peer in ("ASE-LMDB, ASE", "in memory, ASE", "in memory, matscipy")
            if peer in figures
        ],
        notes=notes,
    )
    write(report, options)


def _sizes(epoch: Callable[[], Any]) -> Any:
    """The rows of each batch."""
    for batch in epoch():
        atoms = batch.atoms if isinstance(batch, Connected) else batch
        yield len(atoms.energy)


if __name__ == "__main__":
    main()
