"""The structures of reader_structures.py from S3 (moto, a process of its own): python benchmarks/reader_s3.py [--quick]

A rate is that of epochs of new readers that keep nothing, of a dataset that is open, from the making of the reader.
`cache cold` begins every epoch with an empty cache folder; `cache warm` reads what another epoch left there; `no cache`
has none, and `local` reads a folder. The first batch is timed from before the dataset is opened. The server computes on
the same cores, which it would not in earnest.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count as numbers
from pathlib import Path
from statistics import median

import torch
from measuring import Goal, Report, in_turn, options_of, ratio, spread, write
from s3_server import s3_server
from synthetic import publish_structures, structures

from cluster.dataset.cache import BlockCache
from cluster.dataset.dataset import Dataset, open_dataset
from cluster.store import open_store
from jobs.data.reader import Reader

BATCH = 64
LIMIT = 1 << 30  # bytes of the cache
STATES = ("local", "cache cold", "cache warm", "no cache")


def openers(local: str, remote: str, folder: Path) -> dict[str, Callable[[], Dataset]]:
    """How a dataset is opened in each state."""
    fresh = numbers()
    return {
        "local": lambda: open_dataset(local),
        "cache cold": lambda: open_dataset(remote, cache=BlockCache(folder / f"cold-{next(fresh)}", LIMIT)),
        "cache warm": lambda: open_dataset(remote, cache=BlockCache(folder / "warm", LIMIT)),
        "no cache": lambda: open_dataset(remote),
    }


def first_batch(opened: Callable[[], Dataset]) -> float:
    """Seconds from before the dataset is opened until the first batch is there."""
    start = time.perf_counter()
    batches = iter(Reader(opened(), batch=BATCH, epochs=1))
    next(batches)
    seconds = time.perf_counter() - start
    batches.close()
    return seconds


def epoch_rate(opened: Callable[[], Dataset], seconds: float) -> float:
    """Rows a second of epochs, each of a dataset opened before and of a new reader; `seconds` at least."""
    rows, spent = 0, 0.0
    while spent < seconds:
        dataset = opened()
        start = time.perf_counter()
        rows += sum(len(batch.energy) for batch in Reader(dataset, batch=BATCH, epochs=1, keep=0))
        spent += time.perf_counter() - start
    return rows / spent


def _itself(dataset: Dataset) -> Dataset:
    return dataset


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__, ("--structures", {"type": int, "default": 20_000}))
    count, seconds = (2000, 0.2) if options.quick else (options.structures, 1.0)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    rows = structures(count)
    with tempfile.TemporaryDirectory() as name, s3_server() as bucket:
        folder = Path(name)
        manifest = publish_structures(open_store(f"{folder}/store"), rows)
        publish_structures(open_store(f"{bucket}/store"), rows)
        states = openers(f"{folder}/store/datasets/structures", f"{bucket}/store/datasets/structures", folder)
        epoch_rate(states["cache warm"], 1e-9)  # one epoch fills the cache
        for state in ("local", "cache warm", "no cache"):
            states[state] = partial(_itself, states[state]())
        figures = in_turn({state: partial(epoch_rate, opened, seconds) for state, opened in states.items()}, options)
        states = openers(f"{folder}/store/datasets/structures", f"{bucket}/store/datasets/structures", folder / "anew")
        waits = in_turn({state: partial(first_batch, opened) for state, opened in states.items()}, options)
    report = Report(
        "reader_s3",
        "Reading structures from S3",
        {
            "structures": count,
            "atoms": "16 to 47",
            "stored bytes": sum(shard.bytes for shard in manifest.shards),
            "row groups": sum(len(shard.groups) for shard in manifest.shards),
            "batch": BATCH,
            "dtype": "float64",
            "unit": "rows/s, seconds",
        },
        tables={"Rates": spread(figures, "local"), "Time to the first batch": spread(waits, "local", digits=4)},
        goals=[
            Goal("cache cold / local", ratio(figures, "cache cold", "local"), 0.5),
            Goal("cache warm / local", ratio(figures, "cache warm", "local"), 0.9),
            *(Goal(f"first batch, {state}, s", median(waits[state]), 1.0, less=True) for state in STATES),
        ],
    )
    write(report, options)


if __name__ == "__main__":
    main()
