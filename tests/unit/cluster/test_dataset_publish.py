"""Publishing datasets: equal content is one version, a race loses nothing, mistakes are refused."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.commit import Published, commit_dataset
from cluster.dataset.conform import conform
from cluster.dataset.manifest import DatasetManifest, Skipped
from cluster.dataset.publish import publish_dataset, publish_table
from cluster.dataset.read import list_datasets, read_table
from cluster.dataset.schema import STRUCTURES, images_schema
from cluster.dataset.shards import write_shard
from cluster.dataset.verify import verify_dataset
from cluster.errors import StoreError, UserError
from cluster.store import Store, open_store
from cluster.store.local import LocalStore

Molecules = Callable[..., pa.Table]


def publish(store: Store, table: pa.Table, name: str = "water", rows_per_shard: int | None = 5) -> DatasetManifest:
    return publish_dataset(
        store, name, table, kind="structures", provenance={"by": "test"}, rows_per_shard=rows_per_shard
    )


def test_what_is_published_is_read(store: Store, molecules: Molecules) -> None:
    table = molecules()
    manifest = publish(store, table)
    assert manifest.ref == "water@1"
    assert manifest.rows == 12
    assert manifest.splits == {"train": 8, "test": 4}
    assert [(shard.split, shard.rows) for shard in manifest.shards] == [("train", 4), ("train", 4), ("test", 4)]
    assert {column.name: column.unit for column in manifest.columns}["forces"] == "eV/angstrom"
    found = read_table(store, "water@1")
    assert found.schema.equals(STRUCTURES, check_metadata=True)
    assert found.to_pylist() == table.to_pylist()
    assert verify_dataset(store, "water@1") == []


def test_a_version_is_its_manifest_and_shards_are_beside_it(store: Store, molecules: Molecules) -> None:
    manifest = publish(store, molecules())
    folders = {key.rpartition("/")[0] for key in store.list()}
    assert folders == {"datasets/water/1", "datasets/water/shards"}
    assert {manifest.key_of(shard) for shard in manifest.shards} < set(store.list())
    for shard in manifest.shards:
        assert shard.path == f"shards/{shard.sha256[:40]}.parquet"


def test_rows_keep_their_order_within_a_split(store: Store, molecules: Molecules) -> None:
    order = np.random.default_rng(3).permutation(12)
    shuffled = molecules().take(pa.array(order))
    publish(store, shuffled)
    rows = shuffled.to_pylist()
    wanted = [row for split in ("train", "test") for row in rows if row["split"] == split]
    assert read_table(store, "water").to_pylist() == wanted


def test_only_the_wanted_rows_and_columns_are_read(store: Store, molecules: Molecules) -> None:
    publish(store, molecules())
    found = read_table(store, "water", split="test", columns=["energy", "id"])
    assert found.column_names == ["energy", "id"]
    assert found["id"].to_pylist() == [f"frame-{row:03d}" for row in range(8, 12)]
    assert read_table(store, "water", split="valid").num_rows == 0


def test_equal_content_is_the_version_that_is_there(store: Store, molecules: Molecules) -> None:
    table = molecules()
    first = publish(store, table)
    before = store.list()
    columns = table.select(table.column_names[::-1])
    chunked = pa.concat_tables([columns.slice(0, 7), columns.slice(7, 0), columns.slice(7)])
    again = publish_table(store, "water", chunked, kind="structures", provenance={"by": "others"}, rows_per_shard=5)
    assert again.manifest == first
    assert again.existed
    assert again.notice == "water@1 holds the same rows already; nothing new was published"
    assert store.list() == before


def test_versions_share_the_shards_they_have_in_common(store: Store, molecules: Molecules) -> None:
    table = molecules()
    first = publish(store, table)
    before = set(store.list())
    second = publish(store, table.slice(4))
    assert {shard.path for shard in second.shards} < {shard.path for shard in first.shards}
    assert {key.rpartition(".")[2] for key in set(store.list()) - before} == {"arrow", "json"}


@pytest.mark.parametrize("column", STRUCTURES.names)
def test_a_change_in_any_column_is_a_new_version(store: Store, molecules: Molecules, column: str) -> None:
    table = molecules()
    publish(store, table)
    values = table[column].to_pylist()
    changed = {
        "id": "frame-zzz",
        "group": "t9",
        "split": "train",
        "numbers": [7] * len(values[-1]) if column == "numbers" else None,
        "energy": 1.25,
    }.get(column) or [x + 1e-12 for x in values[-1]]
    # 'split' changes for its whole group, the others in the last row
    rows = 4 if column == "split" else 1
    place = table.schema.get_field_index(column)
    new = pa.array(values[:-rows] + [changed] * rows, table.schema.field(column).type)
    table = table.set_column(place, table.schema.field(column), new)
    assert publish(store, table).version == 2


def test_a_unit_is_content(store: Store, molecules: Molecules) -> None:
    field = pa.field("dipole", pa.float64(), metadata={"unit": "e angstrom"})
    table = molecules().append_column(field, pa.array([0.0] * 12))
    first = publish(store, table)
    other = table.set_column(7, field.with_metadata({"unit": "D"}), table["dipole"])
    assert {column.name: column.unit for column in first.columns}["dipole"] == "e angstrom"
    assert publish(store, other).version == 2


def test_a_column_that_cannot_be_digested_is_refused(store: Store, molecules: Molecules) -> None:
    table = molecules().append_column("raw", pa.array([b"x"] * 12))
    with pytest.raises(UserError, match="no column of type binary"):
        publish(store, table)
    assert store.list() == []


def test_images_keep_their_shape(store: Store) -> None:
    schema = images_schema((1, 2, 3))
    rows = [
        {"id": str(i), "pixels": [float(i + k) for k in range(6)], "label": i % 2, "group": str(i), "split": "train"}
        for i in range(4)
    ]
    table = pa.Table.from_pylist(rows, schema=schema)
    manifest = publish_dataset(store, "pictures", table, kind="images", provenance={})
    found = read_table(store, "pictures")
    assert found.schema.equals(schema, check_metadata=True)
    assert found["pixels"].type.shape == [1, 2, 3]
    assert found.to_pylist() == rows
    assert manifest.statistics["shape"] == [1, 2, 3]
    assert verify_dataset(store, "pictures") == []


def test_skipped_rows_are_counted_and_the_first_thousand_are_listed(store: Store, molecules: Molecules) -> None:
    table = conform(molecules(4), "structures")
    listed = tuple({"where": f"a.xyz:{line}", "reason": "no number"} for line in range(1500))
    published = commit_dataset(
        store,
        "water",
        kind="structures",
        schema=table.schema,
        written=[write_shard(store, "water", table, "structures", split="test")],
        provenance={},
        skipped=Skipped(count=1500, listed=listed),
    )
    assert published.manifest.skipped.count == 1500
    assert published.manifest.skipped.listed == listed[:1000]
    assert list_datasets(store) == [published.manifest]


def test_shards_that_were_swept_before_the_commit_are_not_committed(store: Store, molecules: Molecules) -> None:
    table = conform(molecules(4), "structures")
    written = write_shard(store, "water", table, "structures", split="test")
    store.delete(f"datasets/water/{written.shard.path}")
    with pytest.raises(StoreError, match=r"1 shards of dataset 'water' are gone again(.|\n)*Write them again"):
        commit_dataset(store, "water", kind="structures", schema=table.schema, written=[written], provenance={})
    assert list_datasets(store) == []


def test_shards_of_other_columns_are_not_committed(store: Store, molecules: Molecules) -> None:
    table = conform(molecules(4), "structures")
    written = write_shard(store, "water", table, "structures", split="test")
    other = replace(written, schema=table.drop_columns(["energy"]).schema)
    with pytest.raises(UserError, match="has other columns than the dataset"):
        commit_dataset(store, "water", kind="structures", schema=table.schema, written=[other], provenance={})


def test_a_shard_holds_one_split(store: Store, molecules: Molecules) -> None:
    table = conform(molecules(), "structures")
    with pytest.raises(UserError, match="shard of the train split"):
        write_shard(store, "water", table, "structures", split="train")
    assert store.list() == []


class Meets(LocalStore):
    """A store whose writers all wait for each other before the first manifest."""

    barrier: threading.Barrier

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if key == "datasets/water/1/manifest.json":
            self.barrier.wait(20)
        return super().write(key, data, if_absent=if_absent, if_match=if_match)


def at_once(store: LocalStore, tables: list[pa.Table]) -> list[Published]:
    """Publish all tables by threads that try for the same version number."""
    meets = Meets(store.root)
    meets.barrier = threading.Barrier(len(tables))

    def run(table: pa.Table) -> Published:
        return publish_table(meets, "water", table, kind="structures", provenance={}, rows_per_shard=5)

    with ThreadPoolExecutor(len(tables)) as pool:
        return list(pool.map(run, tables))


def test_of_two_publications_at_once_one_wins_and_the_other_says_so(store: LocalStore, molecules: Molecules) -> None:
    tables = [molecules(seed=1), molecules(seed=2)]
    published = at_once(store, tables)
    assert sorted(one.manifest.version for one in published) == [1, 2]
    for one, table in zip(published, tables, strict=True):
        assert read_table(store, one.manifest.ref).to_pylist() == table.to_pylist()
        assert verify_dataset(store, one.manifest.ref) == []
        assert not one.existed
    winner, loser = sorted(published, key=lambda one: one.manifest.version)
    assert (winner.outran, winner.notice) == ((), None)
    assert loser.outran == ("water@1",)
    assert loser.notice == "water@1 was published by others meanwhile; this is water@2"


def test_of_equal_publications_at_once_both_are_the_same_version(store: LocalStore, molecules: Molecules) -> None:
    published = at_once(store, [molecules(), molecules(), molecules()])
    assert {one.manifest.ref for one in published} == {"water@1"}
    assert sorted(one.existed for one in published) == [False, True, True]
    assert [manifest.ref for manifest in list_datasets(store)] == ["water@1"]
    assert verify_dataset(store, "water") == []


def test_writers_of_different_content_get_versions_of_their_own(store: Store, molecules: Molecules) -> None:
    tables = [molecules(seed=seed) for seed in range(6)]
    start = threading.Barrier(6)

    def run(table: pa.Table) -> DatasetManifest:
        start.wait()
        return publish(open_store(store.uri), table)

    with ThreadPoolExecutor(6) as pool:
        manifests = list(pool.map(run, tables))
    assert sorted(manifest.version for manifest in manifests) == [1, 2, 3, 4, 5, 6]
    for manifest, table in zip(manifests, tables, strict=True):
        assert read_table(store, manifest.ref).to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("energy", float("nan"), "'energy' has 1 missing, NaN or infinite"),
        ("forces", [0.0, float("inf"), 0.0], "'forces' has 1 missing, NaN or infinite"),
        ("id", "frame-000", "1 ids occur more than once: frame-000"),
        ("positions", [0.0, 1.0], "1 structures have lists that do not fit: frame-011"),
        ("numbers", [], "1 structures have lists that do not fit: frame-011"),
        ("split", "validation", "unknown splits: validation"),
        ("split", "train", "1 groups are in more than one split: t2"),
        ("group", "t0", "1 groups are in more than one split: t0"),
    ],
)
def test_a_mistake_is_refused_and_nothing_is_written(
    store: Store, molecules: Molecules, column: str, value: object, message: str
) -> None:
    table = molecules()
    place = table.schema.get_field_index(column)
    values = [*table[column].to_pylist()[:-1], value]
    table = table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))
    with pytest.raises(UserError, match=message):
        publish(store, table)
    assert store.list() == []


def test_missing_columns_are_listed(store: Store, molecules: Molecules) -> None:
    with pytest.raises(UserError, match="missing columns: numbers, positions"):
        publish(store, molecules().drop_columns(["numbers", "positions"]))


def test_a_column_of_another_type_says_what_is_wanted(store: Store, molecules: Molecules) -> None:
    table = molecules().drop_columns(["energy"]).append_column("energy", pa.array(["high"] * 12))
    with pytest.raises(UserError, match="energy: double"):
        publish(store, table)


def test_a_table_without_rows_is_no_dataset(store: Store, molecules: Molecules) -> None:
    with pytest.raises(UserError, match="the dataset has no rows"):
        publish(store, molecules().slice(0, 0))


def test_a_name_that_is_no_folder_is_refused(store: Store, molecules: Molecules) -> None:
    for name in ("", "a/b", "a@1", "../x", ".hidden", "a b"):
        with pytest.raises(UserError, match="is no dataset name"):
            publish(store, molecules(), name=name)
