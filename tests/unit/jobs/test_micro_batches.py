"""What a step sees does not depend on the number of workers, nor on where a run was resumed."""

from itertools import islice

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.publish import publish_dataset
from cluster.store import open_store
from jobs.build import training_batches, validation_batches
from jobs.spec.train import TrainSpec
from jobs.world import World

TRAIN, VALID = 61, 19
BATCHES = [{"structures": 8}, {"atoms": 14}]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Structures of 1 to 6 atoms in row groups of 8."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    random = np.random.default_rng(0)
    rows = [
        {
            "id": f"s{number:03d}",
            "numbers": [1] * size,
            "positions": (random.normal(size=3 * size) + 4 * np.arange(size).repeat(3)).tolist(),
            "energy": float(number),
            "forces": [0.0] * (3 * size),
            "group": f"s{number:03d}",
            "split": "train" if number < TRAIN else "valid",
        }
        for number, size in enumerate(int(size) for size in random.integers(1, 7, TRAIN + VALID))
    ]
    publish_dataset(store, "small", pa.Table.from_pylist(rows), kind="structures", provenance={}, rows_per_shard=8)
    return open_dataset("small", store=store)


def spec(batch: dict[str, int], accumulate: int = 1) -> TrainSpec:
    return TrainSpec.model_validate(
        {
            "spec_version": 1,
            "kind": "train",
            "name": "small",
            "data": {"uri": "datasets/small@1", "batch": batch, "window": 3},
            "model": {"name": "gaunt_potential", "params": {"cutoff": 3.0}},
            "objective": {"name": "energy_force"},
            "strategy": {"kind": "ddp", "accumulate": accumulate},
            "resources": {"workers": {"min": 1, "max": 4}},
        }
    )


def steps(dataset, wanted, workers, count, state=None):
    """The micro-batches of so many steps, in order over all ranks, as energies; and where the ranks are then."""
    parts, ranks, states = wanted.accumulation(workers), [], []
    for rank in range(workers):
        reader = training_batches(dataset, wanted, World(rank, workers))
        if state is not None:
            reader.load_state(state)
        iterator = iter(reader)
        ranks.append([batch.energy.tolist() for batch in islice(iterator, count * parts)])
        iterator.close()
        states.append(reader.state())
    assert all(one == states[0] for one in states)
    flat = [ranks[place % workers][place // workers] for place in range(count * parts * workers)]
    each = parts * workers
    return [flat[at : at + each] for at in range(0, len(flat), each)], states[0]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_has_the_same_micro_batches_on_any_number_of_workers(dataset, batch, accumulate):
    wanted = spec(batch, accumulate)
    expected, at = steps(dataset, wanted, 4, 6)
    assert [len(step) for step in expected] == [4 * accumulate] * 6
    for workers in (1, 2):
        assert steps(dataset, wanted, workers, 6) == (expected, at)


@pytest.mark.parametrize("batch", BATCHES)
def test_workers_come_and_go_and_the_stream_goes_on(dataset, batch):
    wanted = spec(batch)
    expected, _ = steps(dataset, wanted, 2, 12)
    found, state = [], None
    for workers in (2, 1, 4, 2):
        part, state = steps(dataset, wanted, workers, 3, state)
        found += part
    assert found == expected


def test_a_micro_batch_is_an_equal_share_of_the_global_batch(dataset):
    found, _ = steps(dataset, spec({"structures": 8}, accumulate=2), 2, 3)
    assert {len(micro) for step in found for micro in step} == {1}
    found, _ = steps(dataset, spec({"structures": 8}), 1, 3)
    assert {len(micro) for step in found for micro in step} == {2}


@pytest.mark.parametrize("batch", BATCHES)
def test_validation_has_the_same_micro_batches_too(dataset, batch):
    def shares(workers):
        ranks = [
            [micro.energy.tolist() for micro in validation_batches(dataset, spec(batch), World(rank, workers))]
            for rank in range(workers)
        ]
        rounds = max(map(len, ranks))
        return [rank[place] for place in range(rounds) for rank in ranks if place < len(rank)]

    expected = shares(1)
    assert sorted(energy for micro in expected for energy in micro) == list(range(TRAIN, TRAIN + VALID))
    assert shares(2) == shares(4) == expected
