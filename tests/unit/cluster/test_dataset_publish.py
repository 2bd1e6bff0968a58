"""Publishing datasets: equal content is one version, a kill leaves nothing, a race loses nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.publish import publish_dataset
from cluster.dataset.read import list_datasets, load_manifest, read_table
from cluster.dataset.schema import STRUCTURES, images_schema
from cluster.dataset.verify import verify_dataset
from cluster.errors import NotFoundError, UserError
from cluster.store import Store, open_store
from cluster.store.local import LocalStore


def structures(rows: int = 12, seed: int = 0) -> pa.Table:
    """Random molecules of 2 to 4 atoms, four to a trajectory; the last trajectory is the test split."""
    random = np.random.default_rng(seed)
    groups = [f"t{row // 4}" for row in range(rows)]
    return pa.Table.from_pylist(
        [
            {
                "id": f"frame-{row:03d}",
                "numbers": random.choice([1, 6, 8], atoms).tolist(),
                "positions": random.normal(size=3 * atoms).tolist(),
                "energy": float(random.normal()),
                "forces": random.normal(size=3 * atoms).tolist(),
                "group": group,
                "split": "test" if group == groups[-1] else "train",
            }
            for row, group in enumerate(groups)
            for atoms in [int(random.integers(2, 5))]
        ],
        schema=STRUCTURES,
    )


def publish(store: Store, table: pa.Table, name: str = "water", rows_per_shard: int = 5) -> DatasetManifest:
    return publish_dataset(
        store, name, table, kind="structures", provenance={"by": "test"}, rows_per_shard=rows_per_shard
    )


def test_what_is_published_is_read(store: Store) -> None:
    table = structures()
    manifest = publish(store, table)
    assert manifest.ref == "water@1"
    assert manifest.rows == 12
    assert manifest.splits == {"train": 8, "test": 4}
    assert [shard.rows for shard in manifest.shards] == [5, 5, 2]
    assert {column.name: column.unit for column in manifest.columns}["forces"] == "eV/angstrom"
    found = read_table(store, "water@1")
    assert found.schema.equals(STRUCTURES, check_metadata=False)
    assert found.sort_by("id").to_pylist() == table.to_pylist()
    assert verify_dataset(store, "water@1") == []


def test_only_the_wanted_rows_and_columns_are_read(store: Store) -> None:
    publish(store, structures())
    found = read_table(store, "water", split="test", columns=["id", "energy"])
    assert found.column_names == ["id", "energy"]
    assert found["id"].to_pylist() == [f"frame-{row:03d}" for row in range(8, 12)]
    assert read_table(store, "water", split="valid").num_rows == 0


def test_equal_content_is_the_version_that_is_there(store: Store) -> None:
    table = structures()
    first = publish(store, table)
    before = store.list()
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(12)))
    columns = shuffled.select(shuffled.column_names[::-1])
    again = publish(store, pa.concat_tables([columns.slice(0, 7), columns.slice(7)]), rows_per_shard=3)
    assert again == first
    assert store.list() == before


@pytest.mark.parametrize("column", STRUCTURES.names)
def test_a_change_in_any_column_is_a_new_version(store: Store, column: str) -> None:
    table = structures()
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


def test_a_unit_is_content(store: Store) -> None:
    table = structures().append_column(pa.field("charge", pa.int64(), metadata={"unit": "e"}), pa.array([0] * 12))
    first = publish(store, table)
    other = table.set_column(7, pa.field("charge", pa.int64(), metadata={"unit": "C"}), table["charge"])
    assert {column.name: column.unit for column in first.columns}["charge"] == "e"
    assert publish(store, other).version == 2


def test_further_columns_are_kept_and_verified(store: Store) -> None:
    table = structures()
    table = table.append_column("valid", pa.array([True, False] * 6))
    table = table.append_column("stress", pa.array([[float(row)] * 6 for row in range(12)]))
    publish(store, table)
    assert read_table(store, "water", columns=["valid"])["valid"].to_pylist() == [True, False] * 6
    assert verify_dataset(store, "water") == []
    assert publish(store, read_table(store, "water")).version == 1


def test_a_column_that_cannot_be_digested_is_refused(store: Store) -> None:
    table = structures().append_column("raw", pa.array([b"x"] * 12))
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
    assert found.schema.equals(schema, check_metadata=False)
    assert found.schema.field("pixels").metadata[b"shape"] == b"[1, 2, 3]"
    assert found.to_pylist() == rows
    assert manifest.statistics["shape"] == [1, 2, 3]
    assert verify_dataset(store, "pictures") == []


class Dies(LocalStore):
    """A store whose writer is killed at the write numbered `at`, before or after it is applied."""

    at = 0
    after = False

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.at -= 1
        if self.at == 0 and not self.after:
            raise KeyboardInterrupt
        etag = super().write(key, data, if_absent=if_absent, if_match=if_match)
        if self.at == 0:
            raise KeyboardInterrupt
        return etag

    def delete(self, key: str) -> None:
        if self.at > 0:
            super().delete(key)


@pytest.mark.parametrize(
    ("at", "after"),  # three shards, then the manifest: once that is there, the version was published
    [(1, False), (1, True), (2, False), (2, True), (3, False), (3, True), (4, False)],
)
def test_a_kill_leaves_no_version_and_the_next_try_leaves_no_trace(store: LocalStore, at: int, after: bool) -> None:
    dying = Dies(store.root)
    dying.at, dying.after = at, after
    with pytest.raises(KeyboardInterrupt):
        publish(dying, structures())
    assert list_datasets(store) == []
    with pytest.raises(NotFoundError):
        load_manifest(store, "water")
    manifest = publish(store, structures())
    assert manifest.version == 1
    assert len(store.list()) == len(manifest.shards) + 1


def test_an_error_in_the_middle_removes_what_was_written(store: LocalStore) -> None:
    class Full(LocalStore):
        writes = 0

        def write(self, key: str, data: bytes, **condition: bool) -> str:  # type: ignore[override]
            self.writes += 1
            if self.writes == 3:
                raise OSError("disk full")
            return super().write(key, data, **condition)  # type: ignore[arg-type]

    with pytest.raises(OSError, match="disk full"):
        publish(Full(store.root), structures())
    assert store.list() == []


def test_writers_of_different_content_get_versions_of_their_own(store: Store) -> None:
    tables = [structures(seed=seed) for seed in range(6)]
    start = threading.Barrier(6)

    def run(table: pa.Table) -> DatasetManifest:
        start.wait()
        return publish(open_store(store.uri), table)

    with ThreadPoolExecutor(6) as pool:
        manifests = list(pool.map(run, tables))
    assert sorted(manifest.version for manifest in manifests) == [1, 2, 3, 4, 5, 6]
    for manifest, table in zip(manifests, tables, strict=True):
        assert read_table(store, manifest.ref).sort_by("id").to_pylist() == table.to_pylist()
        assert verify_dataset(store, manifest.ref) == []
    assert len(store.list()) == sum(len(manifest.shards) + 1 for manifest in manifests)


def test_writers_of_equal_content_share_one_version(store: Store) -> None:
    start = threading.Barrier(6)

    def run(_: int) -> DatasetManifest:
        start.wait()
        return publish(open_store(store.uri), structures())

    with ThreadPoolExecutor(6) as pool:
        manifests = {manifest.ref for manifest in pool.map(run, range(6))}
    assert manifests == {"water@1"}
    assert verify_dataset(store, "water") == []


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
def test_a_mistake_is_refused_and_nothing_is_written(store: Store, column: str, value: object, message: str) -> None:
    table = structures()
    place = table.schema.get_field_index(column)
    values = [*table[column].to_pylist()[:-1], value]
    table = table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))
    with pytest.raises(UserError, match=message):
        publish(store, table)
    assert store.list() == []


def test_missing_columns_are_listed(store: Store) -> None:
    with pytest.raises(UserError, match="missing columns: energy, forces"):
        publish(store, structures().drop_columns(["energy", "forces"]))


def test_a_column_of_another_type_says_what_is_wanted(store: Store) -> None:
    table = structures().drop_columns(["energy"]).append_column("energy", pa.array(["high"] * 12))
    with pytest.raises(UserError, match="energy: double"):
        publish(store, table)


def test_a_name_that_is_no_folder_is_refused(store: Store) -> None:
    for name in ("", "a/b", "a@1", "../x", ".hidden", "a b"):
        with pytest.raises(UserError, match="is no dataset name"):
            publish(store, structures(), name=name)
