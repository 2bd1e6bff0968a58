"""What was published in version 1 of the format stays readable for ever. See tests/data/README.md."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.publish import publish_dataset
from cluster.dataset.read import load_manifest, read_table
from cluster.dataset.schema import SPLITS, image_shape
from cluster.dataset.sweep import sweep_dataset
from cluster.dataset.tensors import tensor_numpy, tensor_type
from cluster.dataset.upgrade import logical_schema
from cluster.dataset.verify import verify_dataset
from cluster.errors import DamagedDataError, NotFoundError
from cluster.store import open_store
from cluster.store.local import LocalStore

KEPT = Path(__file__).parents[2] / "data" / "dataset_v1"
ROWS = json.loads((KEPT / "rows.json").read_text())


@pytest.fixture
def old(tmp_path: Path) -> LocalStore:
    """A copy of the store that the release before version 2 has written."""
    shutil.copytree(KEPT, tmp_path / "store")
    return LocalStore(tmp_path / "store")


def as_now(name: str) -> list[dict[str, Any]]:
    """The rows as version 1 gave them, in the values of this one: the charge, a further column then, is a float now."""
    return [{key: float(value) if key == "charge" else value for key, value in row.items()} for row in ROWS[name]]


@pytest.mark.parametrize("name", ["water", "pictures"])
def test_its_rows_are_read_as_they_were(old: LocalStore, name: str) -> None:
    assert load_manifest(old, name).schema_version == 1
    dataset = open_dataset(f"{old.uri}/datasets/{name}")
    table = dataset.table()
    assert table.to_pylist() == as_now(name)
    assert table.schema.equals(dataset.schema, check_metadata=True)
    assert read_table(old, name, columns=["split", "id"]).to_pylist() == [
        {"split": row["split"], "id": row["id"]} for row in ROWS[name]
    ]


@pytest.mark.parametrize("name", ["water", "pictures"])
def test_its_splits_are_ranges_of_rows_that_cut_row_groups(old: LocalStore, name: str) -> None:
    dataset = open_dataset(name, store=old)
    for split in SPLITS:
        rows = [row for row in as_now(name) if row["split"] == split]
        assert dataset.table(split).to_pylist() == rows
        assert dataset.rows(split) == len(rows)
        index = dataset.groups(split)
        found = [
            row
            for number, skip, count in zip(index.number, index.skip, index.rows, strict=True)
            for row in dataset.read_group(int(number)).slice(int(skip), int(count)).to_pylist()
        ]
        assert found == rows
        assert as_now(name)[int(index.first[0])] == rows[0]
    assert any(dataset.groups(split).skip.any() for split in SPLITS)


def test_pixels_are_tensors_now(old: LocalStore) -> None:
    table = read_table(old, "pictures")
    assert table.schema.field("pixels").type == tensor_type(pa.float32(), (1, 2, 3))
    assert image_shape(table.schema) == (1, 2, 3)
    pixels = tensor_numpy(table["pixels"])
    np.testing.assert_array_equal(pixels.reshape(9, 6), [row["pixels"] for row in ROWS["pictures"]])


def test_it_is_read_where_a_store_is_no_folder(old: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStore, "local_path", lambda self, key: None)
    for name in ("water", "pictures"):
        assert open_dataset(name, store=old).table().to_pylist() == as_now(name)


def test_sizes_that_nobody_wrote_down_are_counted(old: LocalStore) -> None:
    sizes = open_dataset("water", store=old).sizes()
    assert sizes is not None
    assert sizes.tolist() == [len(row["numbers"]) for row in ROWS["water"]]
    assert open_dataset("pictures", store=old).sizes() is None


def test_it_is_verified_by_its_own_rules(old: LocalStore) -> None:
    assert verify_dataset(old, "water") == []
    assert verify_dataset(old, "pictures") == []


def test_a_changed_byte_of_it_is_found(old: LocalStore) -> None:
    manifest = load_manifest(old, "water")
    key = manifest.key_of(manifest.shards[1])
    assert key.startswith("datasets/water/1/shard-00001-")
    data = bytearray(old.read(key))
    data[len(data) // 2] ^= 1
    old.write(key, bytes(data))
    (problem,) = verify_dataset(old, "water")
    assert problem.startswith(f"{manifest.shards[1].path} is not the file that was published: sha256 expected")
    old.write(key, bytes(data[:-5]))
    with pytest.raises(DamagedDataError, match=f"{manifest.shards[1].path}.* bytes instead of"):
        read_table(old, "water")
    old.delete(key)
    with pytest.raises(NotFoundError, match=f"lost a shard: {manifest.shards[1].path}"):
        read_table(old, "water")


def test_published_again_it_is_version_2_of_the_format(old: LocalStore) -> None:
    for name, kind in (("water", "structures"), ("pictures", "images")):
        table = read_table(old, name)
        manifest = publish_dataset(old, name, table, kind=kind, provenance={})  # type: ignore[arg-type]
        assert (manifest.ref, manifest.schema_version) == (f"{name}@2", 2)
        assert read_table(old, f"{name}@2").to_pylist() == read_table(old, f"{name}@1").to_pylist() == as_now(name)
        assert verify_dataset(old, f"{name}@2") == verify_dataset(old, f"{name}@1") == []


def test_a_sweep_leaves_it_alone(old: LocalStore) -> None:
    before = old.list()
    old.write("datasets/water/2/shard-00000-ffffffff.parquet", b"left by a publication of then that was killed")
    assert sweep_dataset(old, "water").removed == ("datasets/water/2/shard-00000-ffffffff.parquet",)
    assert old.list() == before


def test_a_further_column_of_a_type_that_now_means_something_else_gets_another_name(old: LocalStore) -> None:
    manifest = load_manifest(old, "water")
    columns = tuple(
        column.model_copy(update={"name": "stress", "type": "list<double>"}) if column.name == "charge" else column
        for column in manifest.columns
    )
    assert "stress_v1" in logical_schema(manifest.model_copy(update={"columns": columns})).names
    assert "charge" in Dataset(old, manifest).schema.names


def test_the_copy_under_version_control_is_what_the_tests_say() -> None:
    assert sorted(ROWS) == ["pictures", "water"]
    assert [manifest.schema_version for manifest in (load_manifest(open_store(str(KEPT)), name) for name in ROWS)] == [
        1,
        1,
    ]
