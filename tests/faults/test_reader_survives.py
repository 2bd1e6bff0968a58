"""Readers killed by SIGKILL at any moment, 200 times: put together, what they gave out is the unbroken order."""

import json
import os
import random
import select
import signal
import time
from collections.abc import Iterator
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.publish import publish_dataset
from cluster.store import open_store
from jobs.data.batching import Budget
from jobs.data.order import Order, epoch_order
from jobs.data.reader import Reader

pytestmark = pytest.mark.timeout(600)

ROWS, KILLS, WINDOW, SEED = 997, 200, 3, 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    sizes = np.random.default_rng(0).integers(1, 7, ROWS)
    rows = [
        {
            "id": str(number),
            "numbers": [1] * int(size),
            "positions": (4.0 * np.arange(size).repeat(3)).tolist(),
            "group": str(number),
            "split": "train",
        }
        for number, size in enumerate(sizes)
    ]
    publish_dataset(store, "many", pa.Table.from_pylist(rows), kind="structures", provenance={}, rows_per_shard=50)
    return open_dataset("many", store=store)


def started(dataset: Dataset, batch: Any, rank: int, world: int, state: dict[str, Any] | None) -> tuple[int, int]:
    """A process that writes a line after each step (samples, state): its number, and where its lines are read."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid:
        os.close(sink)
        return pid, source
    try:
        reader = Reader(dataset, batch=batch, seed=SEED, window=WINDOW, rank=rank, world=world)
        if state is not None:
            reader.load_state(state)
        for _ in reader:
            line = json.dumps([reader.rows.tolist(), reader.state()]) + "\n"
            os.write(sink, line.encode())
    finally:
        os._exit(1)


def lines_of(source: int) -> list[Any]:
    """The whole lines that a process wrote before its end; half of one is what was lost with it."""
    text = b""
    while part := os.read(source, 1 << 16):
        text += part
    os.close(source)
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


@pytest.mark.parametrize("worlds", [(1,), (2,), (3,), (1, 3, 2)])
@pytest.mark.parametrize("batch", [12, Budget(atoms=20)])
def test_what_killed_readers_gave_out_is_the_unbroken_order(
    dataset: Dataset, worlds: tuple[int, ...], batch: Any
) -> None:
    moment = random.Random(7)
    consumed: list[int] = []
    state: dict[str, Any] | None = None
    progressed = 0
    for world in islice(cycle(worlds), KILLS):
        processes = [started(dataset, batch, rank, world, state) for rank in range(world)]
        if moment.random() < 0.7:  # else it may die before it has given out anything
            for _, source in processes:
                select.select([source], [], [], 30)
        time.sleep(moment.uniform(0.0, 0.02))
        for pid, _ in processes:
            os.kill(pid, signal.SIGKILL)
        written = [lines_of(source) for _, source in processes]
        for pid, _ in processes:
            os.waitpid(pid, 0)
        # A step counts when every rank has done it; the rest is done again by who resumes.
        steps = list(zip(*written, strict=False))
        consumed += chain.from_iterable(samples for step in steps for samples, _ in step)
        if steps:
            progressed += 1
            states = [after for _, after in steps[-1]]
            assert all(one == states[0] for one in states)
            state = states[0]
    assert progressed > KILLS // 4
    assert len(consumed) > 2 * ROWS
    assert consumed == list(islice(unbroken(dataset), len(consumed)))


def unbroken(dataset: Dataset) -> Iterator[int]:
    rows = tuple(dataset.groups("train").rows.tolist())
    epoch = 0
    while True:
        yield from epoch_order(rows, Order(SEED, WINDOW), epoch).tolist()
        epoch += 1
