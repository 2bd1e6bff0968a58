"""Images of MNIST's size as bytes, shuffled, beside a raw memory map: python benchmarks/reader_images.py [--quick]

The peer is numpy alone: pixels and labels in two .npy files, mapped, read in the order of a permutation of the epoch,
64 rows at a time, as tensors. Nothing is decoded, checked or decompressed there. The same permuted whole, and cut, is
what a reader of a dataset in memory could do at best. MNIST is taken from EQUI_BENCH_DATA, else bytes as sparse.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Goal, Report, in_turn, options_of, rate, ratio, spread, write
from synthetic import images, publish_images

from cluster.dataset.cache import BlockCache
from cluster.dataset.dataset import open_dataset
from cluster.store import open_store
from jobs.data.forms import ImageForm
from jobs.data.reader import Reader

BATCH = 64
EPOCHS = 5  # of one iteration of ours where it goes through more than one
OURS = ("ours, first", "ours, decoded", "ours, from the cache", "ours, kept")
MAP = "memory map"


def ours(uri: str, cache: Path) -> dict[str, Callable[[], Any]]:
    """Our reader in four ways: new for every epoch; keeping nothing; that from a warm cache; all in memory."""
    form = ImageForm(raw=True)
    plain, cached = open_dataset(uri), open_dataset(uri, cache=BlockCache(cache, 1 << 30))
    reader = partial(Reader, batch=BATCH, epochs=EPOCHS, form=form)
    decoded, warm, kept = reader(plain, keep=0), reader(cached, keep=0), reader(plain)
    for found in (warm, kept):
        for _ in found:
            pass  # fills the cache, or the memory
    first = lambda: Reader(open_dataset(uri), batch=BATCH, epochs=1, form=form)  # noqa: E731
    return dict(zip(OURS, (first, lambda: decoded, lambda: warm, lambda: kept), strict=True))


def mapped(pixels: Path, labels: Path) -> Callable[[], Iterator[int]]:
    """Batches from the memory map, each by its 64 row numbers."""
    stored, given = np.load(pixels, mmap_mode="r"), np.load(labels, mmap_mode="r")
    random = np.random.default_rng(0)

    def epoch() -> Iterator[int]:
        order = random.permutation(len(stored))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = torch.from_numpy(stored[rows]), torch.from_numpy(given[rows])
            yield len(batch[1])

    return epoch


def sizes(epoch: Callable[[], Any]) -> Iterator[int]:
    """The rows of each batch."""
    return (len(batch.pixels) for batch in epoch())


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__)
    count, seconds = (6000, 0.2) if options.quick else (60_000, 1.0)
    torch.set_num_threads(1)
    pixels, labels, source = images(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = publish_images(open_store(f"{folder}/store"), pixels, labels)
        np.save(folder / "pixels.npy", pixels)
        np.save(folder / "labels.npy", labels)
        readers = ours(f"{folder}/store/datasets/images", folder / "cache")
        epochs = {way: partial(sizes, epoch) for way, epoch in readers.items()}
        epochs[MAP] = mapped(folder / "pixels.npy", folder / "labels.npy")
        figures = in_turn({way: partial(rate, epoch, seconds) for way, epoch in epochs.items()}, options)
    report = Report(
        "reader_images",
        "Reading images of one byte a pixel",
        {
            "images": len(pixels),
            "source": source,
            "shape": "1 x 28 x 28",
            "stored bytes": sum(shard.bytes for shard in manifest.shards),
            "row groups": sum(len(shard.groups) for shard in manifest.shards),
            "batch": BATCH,
            "unit": "rows/s",
        },
        tables={"Rates": spread(figures, MAP)},
        goals=[Goal(f"{way} / {MAP}", ratio(figures, way, MAP), 0.7) for way in OURS],
    )
    write(report, options)


if __name__ == "__main__":
    main()
