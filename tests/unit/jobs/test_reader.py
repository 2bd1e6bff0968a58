"""The reader gives every sample once an epoch, in an order that no restart, rank or thread changes."""

import threading
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.publish import publish_dataset
from cluster.errors import UserError
from cluster.store import open_store
from jobs.data.batching import Budget
from jobs.data.forms import PlainForm, StructureForm
from jobs.data.order import Order, epoch_order
from jobs.data.reader import Reader

TRAIN = 101


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Structures of 1 to 6 atoms in shards of 8, one row group each: 101 to train on, 7 to validate."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    random = np.random.default_rng(0)
    sizes = random.integers(1, 7, TRAIN + 7)
    rows = [
        {
            "id": f"s{number:03d}",
            "numbers": [1 + number % 5] * int(size),
            "positions": (random.normal(size=3 * size) + 4 * np.arange(size).repeat(3)).tolist(),
            "energy": float(number),
            "forces": np.full(3 * size, float(number)).tolist(),
            "group": f"s{number:03d}",
            "split": "train" if number < TRAIN else "valid",
        }
        for number, size in enumerate(sizes)
    ]
    publish_dataset(store, "small", pa.Table.from_pylist(rows), kind="structures", provenance={}, rows_per_shard=8)
    return open_dataset("small", store=store)


def samples_of(batch: Any) -> list[int]:
    """The numbers of the samples, from the energies; labels and atoms are checked on the way."""
    numbers = batch.energy.to(torch.int64)
    owners = numbers[batch.graph.owner]
    torch.testing.assert_close(batch.forces, owners[:, None].expand(-1, 3).to(batch.forces.dtype))
    assert torch.equal(batch.graph.numbers, 1 + owners % 5)
    return numbers.tolist()


def taken(reader: Reader, batches: int) -> list[list[int]]:
    iterator = iter(reader)
    try:
        return [samples_of(batch) for batch in islice(iterator, batches)]
    finally:
        iterator.close()  # type: ignore[attr-defined]


def unbroken(dataset: Dataset, seed: int, epochs: int, window: int = 3) -> list[int]:
    rows = tuple(dataset.groups("train").rows.tolist())
    return [int(row) for epoch in range(epochs) for row in epoch_order(rows, Order(seed, window), epoch)]


def test_batches_are_the_order_cut_into_pieces(dataset: Dataset) -> None:
    found = taken(Reader(dataset, batch=8, seed=5, window=3), 30)
    assert [len(batch) for batch in found] == [8] * 30
    assert list(chain(*found)) == unbroken(dataset, 5, 3)[:240]


def test_an_epoch_that_is_not_shuffled_is_the_dataset(dataset: Dataset) -> None:
    reader = Reader(dataset, split="valid", batch=3, shuffle=False, epochs=1)
    for _ in range(2):  # iterating again is the next epoch
        assert [samples_of(batch) for batch in reader] == [[101, 102, 103], [104, 105, 106], [107]]


@pytest.mark.parametrize("keep", [0, 1 << 30])
@pytest.mark.parametrize("threads", [1, 4])
def test_memory_and_threads_change_nothing(dataset: Dataset, keep: int, threads: int) -> None:
    found = taken(Reader(dataset, batch=10, window=2, keep=keep, threads=threads), 25)
    assert list(chain(*found)) == unbroken(dataset, 0, 3, window=2)[:250]


def test_the_ranks_together_see_what_one_rank_sees(dataset: Dataset) -> None:
    alone = taken(Reader(dataset, batch=9, window=3), 20)
    for world in (2, 3):
        ranks = [taken(Reader(dataset, batch=9, window=3, rank=rank, world=world), 20) for rank in range(world)]
        assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == alone


def killed_at_random(dataset: Dataset, batch: Any, worlds: Iterator[int], kills: int, seed: int) -> list[int]:
    """What was consumed by readers that are killed after a random number of steps, each resumed by other ranks."""
    random = np.random.default_rng(seed)
    consumed: list[int] = []
    state: dict[str, Any] | None = None
    for _ in range(kills):
        world, steps = next(worlds), int(random.integers(0, 5))
        readers = [Reader(dataset, batch=batch, window=3, seed=seed, rank=rank, world=world) for rank in range(world)]
        if state is not None:
            for reader in readers:
                reader.load_state(state)
        shares = [taken(reader, steps) for reader in readers]
        consumed += chain(*(part for parts in zip(*shares, strict=True) for part in parts))
        states = [reader.state() for reader in readers]
        assert all(one == states[0] for one in states)
        state = states[0]
    return consumed


@pytest.mark.parametrize("worlds", [(1,), (2,), (3,), (1, 3, 2)])
@pytest.mark.parametrize("batch", [6, Budget(atoms=12)])
def test_a_reader_killed_again_and_again_loses_and_doubles_nothing(
    dataset: Dataset, worlds: tuple[int, ...], batch: Any
) -> None:
    def cycled() -> Iterator[int]:
        while True:
            yield from worlds

    consumed = killed_at_random(dataset, batch, cycled(), kills=30, seed=1)
    assert len(consumed) > TRAIN
    assert consumed == unbroken(dataset, 1, 12)[: len(consumed)]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(atoms=st.integers(6, 40), samples=st.none() | st.integers(1, 8), world=st.integers(1, 3), seed=st.integers(0, 9))
def test_a_budget_is_filled_and_never_exceeded(
    dataset: Dataset, atoms: int, samples: int | None, world: int, seed: int
) -> None:
    budget = Budget(atoms=atoms, samples=samples)
    ranks = []
    for rank in range(world):
        reader = Reader(dataset, batch=budget, seed=seed, window=3, rank=rank, world=world, epochs=1)
        ranks.append([samples_of(batch) for batch in reader])
    lengths = {number: int(size) for number, size in enumerate(dataset.sizes("train"))}
    flat = [ranks[place % world][place // world] for place in range(sum(map(len, ranks)))]
    assert list(chain(*flat)) == unbroken(dataset, seed, 1)
    for batch, following in zip(flat, [*flat[1:], []], strict=True):
        held = sum(lengths[sample] for sample in batch)
        assert held <= atoms
        assert samples is None or len(batch) <= samples
        room = atoms - held
        assert not following or lengths[following[0]] > room or len(batch) == samples


def test_a_budget_of_edges_counts_what_the_cutoff_gives(dataset: Dataset) -> None:
    reader = Reader(dataset, batch=Budget(edges=24), form=StructureForm(cutoff=8.0), epochs=1)
    edges = [batch.graph.edges.shape[1] for batch in reader]
    assert max(edges) <= 24
    assert sum(edges) > 100


def test_a_sample_that_no_batch_can_hold_is_named(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"sample 's\d+' has \d atoms, more than a whole batch may hold"):
        list(Reader(dataset, batch=Budget(atoms=3), epochs=1))


def test_the_rows_and_names_of_the_last_batch_are_known(dataset: Dataset) -> None:
    reader = Reader(dataset, batch=4, seed=2)
    (batch,) = islice(reader, 1)
    assert reader.rows.tolist() == samples_of(batch)
    assert reader.identifiers() == [f"s{row:03d}" for row in reader.rows]
    assert reader.consumed == 4


def test_the_state_of_another_stream_is_refused(dataset: Dataset) -> None:
    state = Reader(dataset, batch=4, seed=2).state()
    with pytest.raises(UserError, match="seed 2, not 3"):
        Reader(dataset, batch=4, seed=3).load_state(state)
    with pytest.raises(UserError, match="split 'train', not 'valid'"):
        Reader(dataset, batch=4, seed=2, split="valid").load_state(state)
    with pytest.raises(UserError, match="version 99"):
        Reader(dataset, batch=4, seed=2).load_state({**state, "version": 99})
    with pytest.raises(UserError, match="no state of a reader"):
        Reader(dataset, batch=4, seed=2).load_state({"version": 1})


def test_a_split_without_rows_is_refused(dataset: Dataset) -> None:
    with pytest.raises(UserError, match="has no test split"):
        Reader(dataset, split="test", batch=4)


def test_what_goes_wrong_in_a_thread_is_raised_where_the_batch_is_asked_for(dataset: Dataset) -> None:
    class Broken(PlainForm):
        def batch(self, rows: Any) -> Any:
            raise RuntimeError("cannot make it")

    with pytest.raises(RuntimeError, match="cannot make it"):
        next(iter(Reader(dataset, batch=4, form=Broken())))


def test_leaving_in_the_middle_leaves_no_thread(dataset: Dataset) -> None:
    before = threading.active_count()
    taken(Reader(dataset, batch=4), 3)
    assert threading.active_count() == before
