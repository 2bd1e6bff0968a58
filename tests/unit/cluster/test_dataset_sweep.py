"""Sweeping removes what no version of a dataset names, and nothing while somebody may be writing."""

import json
from collections.abc import Callable

import pyarrow as pa
import pytest

from cluster.dataset.conform import conform
from cluster.dataset.publish import publish_dataset
from cluster.dataset.shards import write_shard
from cluster.dataset.sweep import sweep_dataset
from cluster.dataset.verify import verify_dataset
from cluster.errors import ConflictError, NotFoundError, StoreError
from cluster.runs import create_run, happen
from cluster.store import Store

Molecules = Callable[..., pa.Table]
Equi = Callable[..., tuple[object, str, str]]


@pytest.fixture
def orphan(store: Store, molecules: Molecules) -> str:
    """water@1 and water@2, and the key of a shard that neither names."""
    publish_dataset(store, "water", molecules(), kind="structures", provenance={})
    publish_dataset(store, "water", molecules(8), kind="structures", provenance={})
    table = conform(molecules(4, seed=9), "structures")
    return f"datasets/water/{write_shard(store, 'water', table, 'structures', split='test').shard.path}"


def test_only_what_no_version_names_is_removed(store: Store, orphan: str) -> None:
    before = store.list()
    assert sweep_dataset(store, "water", remove=False).removed == (orphan,)
    assert store.list() == before
    swept = sweep_dataset(store, "water")
    assert (swept.removed, swept.kept) == ((orphan,), len(before) - 1)
    assert store.list() == sorted(set(before) - {orphan})
    assert verify_dataset(store, "water@1") == verify_dataset(store, "water@2") == []
    assert sweep_dataset(store, "water").removed == ()


def test_nothing_is_swept_while_a_run_may_be_writing(store: Store, orphan: str) -> None:
    for kind in ("label", "dataset", "train"):
        create_run(store, kind=kind, name="x", spec="", run_id=f"{kind}-1")
    with pytest.raises(ConflictError, match="dataset-1, label-1 may be writing datasets now"):
        sweep_dataset(store, "water")
    assert store.exists(orphan)
    assert sweep_dataset(store, "water", remove=False).removed == (orphan,)
    for kind in ("label", "dataset"):
        happen(store, f"{kind}-1", "stop")
    assert sweep_dataset(store, "water").removed == (orphan,)


def test_nothing_is_swept_beside_a_manifest_that_cannot_be_read(store: Store, orphan: str) -> None:
    store.write("datasets/water/3/manifest.json", b'{"schema_version": 99}')
    with pytest.raises(StoreError, match="newer release"):
        sweep_dataset(store, "water")
    assert store.exists(orphan)


def test_an_unknown_dataset_is_not_swept(store: Store, orphan: str) -> None:
    with pytest.raises(NotFoundError, match="no dataset 'watre'; did you mean 'water'"):
        sweep_dataset(store, "watre")


def test_the_command_says_what_it_removes(store: Store, orphan: str, equi: Equi) -> None:
    code, out, _ = equi("data", "sweep", "water", "--store", store.uri, "--dry-run")
    assert (code, out.splitlines()[0]) == (0, orphan)
    assert "1 files that no version of water needs would be removed" in out
    code, out, _ = equi("data", "sweep", "water", "--store", store.uri, "--json")
    assert (code, json.loads(out)) == (0, {"dataset": "water", "removed": [orphan], "unneeded": [orphan]})
    assert not store.exists(orphan)


def test_the_commands_show_what_a_manifest_says(store: Store, orphan: str, equi: Equi) -> None:
    _, out, _ = equi("data", "ls", "--store", store.uri)
    assert ["water@1" in out, "water@2" in out] == [True, True]
    _, out, _ = equi("data", "show", "water@1", "--store", store.uri)
    for part in ("schema_version  2", "row groups", "eV/angstrom", "list<uint8>", "atoms_by_species"):
        assert part in out
    code, out, _ = equi("data", "verify", "water", "--store", store.uri)
    assert (code, "is intact" in out) == (0, True)
    key = next(key for key in store.list("datasets/water/shards") if key not in (orphan,) and key.endswith("parquet"))
    data = store.read(key)
    store.write(key, data[:20] + bytes([data[20] ^ 1]) + data[21:])
    outcomes = [equi("data", "verify", ref, "--store", store.uri) for ref in ("water@1", "water@2")]
    assert 2 in [code for code, _, _ in outcomes]
    assert any("row group 0, crc32 expected" in err for _, _, err in outcomes)
