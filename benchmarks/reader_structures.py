"""Structures of variable size, shuffled, from a local disk: python benchmarks/reader_structures.py [--quick]

Rows, types and batches are the same for all (benchmarks/structure_peers.py); files are in the page cache; one process,
torch with one thread. The unshuffled scan is pyarrow.dataset over our own files, in the faster of two ways.

Ours three times. `first`: a new reader for every epoch, opening the dataset included. `decoded`: one reader that keeps
nothing, so every epoch reads and decodes; what a dataset larger than memory costs. `kept`: epochs after the first, of a
dataset that fits into memory.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import structure_peers as peers
import torch
from measuring import Goal, Report, in_turn, options_of, rate, ratio, spread, write
from synthetic import publish_structures, structures

from cluster.dataset.dataset import open_dataset
from cluster.store import open_store
from jobs.data.reader import Reader

SCANS = ("scan of 64", "scan")
OURS = ("ours, first", "ours, decoded", "ours, kept")
EPOCHS = 5  # of one iteration of ours where it goes through more than one
ASE_ROWS = 2000  # writing more takes minutes, and its rate does not depend on it


def sizes(epoch: Callable[[], Any]) -> Callable[[], Iterator[int]]:
    """The rows of each batch."""
    return lambda: (len(batch.energy) for batch in epoch())


def ours(uri: str) -> dict[str, Callable[[], Any]]:
    """Our reader, in three ways."""
    dataset = open_dataset(uri)
    kept = Reader(dataset, batch=peers.BATCH, epochs=EPOCHS)
    for _ in kept:
        pass  # the first epoch reads, the others are what is measured
    decoded = Reader(dataset, batch=peers.BATCH, epochs=EPOCHS, keep=0)
    first = lambda: Reader(open_dataset(uri), batch=peers.BATCH, epochs=1)  # noqa: E731
    return dict(zip(OURS, (first, lambda: decoded, lambda: kept), strict=True))


def others(folder: Path, count: int) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """The peers that are installed, and a note on each that is not."""
    rows, found, absent = structures(count), {}, []
    makers = {
        "DataLoader, 1 worker": partial(peers.worker, rows),
        "LMDB of pickles": partial(peers.lmdb_pickles, rows),
        "MosaicML Streaming": partial(peers.mosaicml, rows),
        "webdataset": partial(peers.webdataset, rows),
        "ASE-LMDB": partial(peers.ase_lmdb, structures(min(count, ASE_ROWS))),
    }
    for name, make in makers.items():
        try:
            found[name] = make(folder / name.split()[0].lower())
        except ImportError as error:
            absent.append(f"{name} was left out: {error}")
    return found, absent


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__, ("--structures", {"type": int, "default": 20_000}))
    count, seconds = (2000, 0.2) if options.quick else (options.structures, 1.0)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # as stored, so that nobody converts
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # the scan gives views of files
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = publish_structures(open_store(f"{folder}/store"), structures(count))
        files = sorted((folder / "store").rglob("*.parquet"))
        cases = ours(f"{folder}/store/datasets/structures")
        cases |= {name: peers.scan(files, whole=name == "scan") for name in SCANS}
        found, notes = others(folder, count)
        cases |= found
        figures = in_turn({name: partial(rate, sizes(epoch), seconds) for name, epoch in cases.items()}, options)
    fastest = max(SCANS, key=lambda scan: ratio(figures, scan, SCANS[0]))
    wanted = {fastest: 0.8, "MosaicML Streaming": 30, "webdataset": 20, "ASE-LMDB": 100}
    report = Report(
        "reader_structures",
        "Reading structures of variable size",
        {
            "structures": count,
            "atoms": "16 to 47",
            "stored bytes": sum(shard.bytes for shard in manifest.shards),
            "row groups": sum(len(shard.groups) for shard in manifest.shards),
            "batch": peers.BATCH,
            "dtype": "float64",
            "unit": "rows/s",
        },
        tables={"Rates": spread(figures, fastest)},
        goals=[
            Goal(f"{way} / {peer}", ratio(figures, way, peer), bound)
            for way in OURS
            for peer, bound in wanted.items()
            if peer in figures
        ],
        notes=[f"ASE-LMDB holds {min(count, ASE_ROWS):,} of the structures.", *notes],
    )
    write(report, options)


if __name__ == "__main__":
    main()
