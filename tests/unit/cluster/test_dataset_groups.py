"""Reading row groups: what they hold, what is checked, what is fetched."""

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.dataset import layout
from cluster.dataset.cache import BlockCache
from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import SPLITS
from cluster.dataset.tensors import tensor_array, to_logical
from cluster.errors import DamagedDataError, NotFoundError, StoreError, UserError
from cluster.store.local import LocalStore

Molecules = Callable[..., pa.Table]


class Bucket(LocalStore):
    """A store that is no folder as far as anybody can see. Counts what is fetched, and spoils some of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched: list[tuple[str, int, int]] = []
        self.spoil = 0  # how many of the next answers have a bit flipped

    def local_path(self, key: str) -> None:  # type: ignore[override]
        return None

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        self.fetched.append((key, offset, length))
        data = bytearray(super().read_range(key, offset, length))
        if self.spoil:
            self.spoil -= 1
            data[len(data) // 2] ^= 4
        return bytes(data)


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "GROUP_ROWS", (3, 3))


@pytest.fixture
def periodic(store: LocalStore, molecules: Molecules) -> pa.Table:
    """water@1: 40 molecules with a cell, in shards of at most 9 rows and groups of at most 3; 36 train, 4 test."""
    table = molecules(40)
    random = np.random.default_rng(5)
    table = table.append_column("cell", tensor_array(random.normal(size=(40, 3, 3))))
    table = table.append_column("pbc", tensor_array(np.ones((40, 3), np.uint8)))
    publish_dataset(store, "water", table, kind="structures", provenance={}, rows_per_shard=9)
    return table


@pytest.fixture(params=["folder", "bucket"])
def dataset(request: pytest.FixtureRequest, store: LocalStore, periodic: pa.Table) -> Dataset:
    return open_dataset("water", store=store if request.param == "folder" else Bucket(store.root))


def by_pyarrow(dataset: Dataset, split: str | None = None) -> pa.Table:
    """The slow twin: whole files, read by pyarrow, one after another."""
    shards = [shard for shard in dataset.manifest.shards if split in (None, shard.split)]
    files = [dataset.store.read(dataset.manifest.key_of(shard)) for shard in shards]
    return pa.concat_tables([to_logical(pq.read_table(pa.BufferReader(file))) for file in files])


def test_all_row_groups_one_after_another_are_the_table(dataset: Dataset, periodic: pa.Table) -> None:
    for split in (None, "train", "test"):
        index = dataset.groups(split)
        found = pa.concat_tables([dataset.read_group(int(number)) for number in index.number])
        assert found.equals(by_pyarrow(dataset, split))
        assert found.to_pylist() == dataset.table(split).to_pylist()
        assert not index.skip.any()
        assert index.rows.sum() == dataset.rows(split)
    assert set(dataset.table().to_pylist()[7]) == set(periodic.column_names)
    rows = periodic.select(dataset.schema.names).to_pylist()
    assert dataset.table().to_pylist() == rows


def test_an_index_says_which_rows_its_groups_are(dataset: Dataset) -> None:
    names = dataset.table(columns=["id"])["id"].to_pylist()
    for split in SPLITS:
        index = dataset.groups(split)
        for number, rows, first in zip(index.number, index.rows, index.first, strict=True):
            table = dataset.read_group(int(number), ["id", "split"])
            assert table["id"].to_pylist() == names[first : first + rows]
            assert set(table["split"].to_pylist()) == {split}
    assert len(dataset.groups("valid")) == 0
    assert dataset.groups("train").number.dtype == np.int64
    assert (np.diff(dataset.groups().number) == 1).all()


def test_columns_come_in_the_order_asked_for(dataset: Dataset) -> None:
    table = dataset.read_group(2, ["cell", "id", "numbers"])
    assert table.column_names == ["cell", "id", "numbers"]
    assert table.equals(dataset.read_group(2).select(["cell", "id", "numbers"]))
    assert table.schema.field("cell").metadata[b"unit"] == b"angstrom"


def test_an_unknown_column_or_split_is_named(dataset: Dataset) -> None:
    with pytest.raises(NotFoundError, match="no column 'cel'; did you mean 'cell'"):
        dataset.read_group(0, ["cel"])
    for ask in (dataset.groups, dataset.rows, dataset.sizes, dataset.table):
        with pytest.raises(NotFoundError, match="no split 'trian'; did you mean 'train'"):
            ask("trian")


def test_ids_and_sizes_of_rows_are_those_of_the_table(dataset: Dataset) -> None:
    table = dataset.table()
    chosen = [39, 0, 17, 17, 5]
    assert dataset.identifiers(chosen) == [table["id"][row].as_py() for row in chosen]
    assert dataset.identifiers([]) == []
    for wrong in ([40], [-1]):
        with pytest.raises(IndexError):
            dataset.identifiers(wrong)
    sizes = [len(numbers) for numbers in table["numbers"].to_pylist()]
    for split, wanted in ((None, sizes), ("train", sizes[:36]), ("valid", []), ("test", sizes[36:])):
        found = dataset.sizes(split)
        assert found is not None
        assert found.dtype == np.uint32
        assert found.tolist() == wanted


def test_a_pickled_dataset_reads_the_same(dataset: Dataset) -> None:
    again = pickle.loads(pickle.dumps(dataset))
    assert again.read_group(3).equals(dataset.read_group(3))
    assert again.manifest == dataset.manifest


def test_many_threads_read_what_one_does(dataset: Dataset) -> None:
    alone = open_dataset("water", store=dataset.store)
    numbers = [int(number) for number in dataset.groups().number] * 8
    np.random.default_rng(0).shuffle(numbers)
    start = threading.Barrier(8)

    def read(share: int) -> list[tuple[int, pa.Table]]:
        start.wait()
        return [(number, dataset.read_group(number)) for number in numbers[share::8]]

    with ThreadPoolExecutor(8) as pool:
        for number, table in (one for share in pool.map(read, range(8)) for one in share):
            assert table.equals(alone.read_group(number))


def flip(store: LocalStore, dataset: Dataset, number: int, place: int) -> tuple[str, str]:
    """Flip a bit in row group `place` of a shard; -1 means its footer. Returns path and expected crc32."""
    shard = dataset.manifest.shards[number]
    group = shard.footer if place < 0 else shard.groups[place]
    assert group is not None
    data = bytearray(store.read(dataset.manifest.key_of(shard)))
    data[group.offset + group.bytes // 2] ^= 1
    store.write(dataset.manifest.key_of(shard), bytes(data))
    return shard.path, f"{group.crc32:08x}"


def test_a_flipped_byte_is_named_with_shard_and_row_group(store: LocalStore, dataset: Dataset) -> None:
    path, expected = flip(store, dataset, number=2, place=1)
    damaged = sum(len(shard.groups) for shard in dataset.manifest.shards[:2]) + 1
    with pytest.raises(
        DamagedDataError, match=f"dataset water@1: shard {path}, row group 1: crc32 expected {expected}, found "
    ) as caught:
        dataset.read_group(damaged, ["id"])
    assert expected not in str(caught.value).partition("found")[2]
    for number in dataset.groups().number:
        if number != damaged:
            dataset.read_group(int(number))
    with pytest.raises(DamagedDataError, match="row group 1"):
        dataset.table()


def test_a_flipped_byte_of_a_footer_is_named(store: LocalStore, dataset: Dataset) -> None:
    path, expected = flip(store, dataset, number=0, place=-1)
    with pytest.raises(DamagedDataError, match=f"shard {path}, footer: crc32 expected {expected}, found "):
        dataset.read_group(0)


def test_a_lost_or_cut_shard_is_named(store: LocalStore, dataset: Dataset) -> None:
    shard = dataset.manifest.shards[1]
    key = dataset.manifest.key_of(shard)
    data = store.read(key)
    store.write(key, data[:-1])
    with pytest.raises(StoreError, match=f"{shard.path}.*{len(data) - 1} bytes"):
        dataset.table("train")
    store.delete(key)
    with pytest.raises(NotFoundError, match=f"dataset water@1 has lost a shard: {shard.path}"):
        dataset.table("train")
    assert dataset.table("test").num_rows == 4


def test_sizes_that_were_changed_or_lost_are_named(store: LocalStore, dataset: Dataset) -> None:
    sidecar = dataset.manifest.sizes
    assert sidecar is not None
    key = dataset.manifest.key_of(sidecar)
    store.write(key, store.read(key).replace(b"atoms", b"atoMs"))
    with pytest.raises(DamagedDataError, match=f"{sidecar.path}, sha256 expected {sidecar.sha256}, found"):
        dataset.sizes()
    store.delete(key)
    with pytest.raises(NotFoundError, match=f"dataset water@1 has lost {sidecar.path}"):
        dataset.sizes()


def test_a_bucket_is_asked_for_each_footer_once_and_for_the_bytes_of_groups(
    store: LocalStore, periodic: pa.Table
) -> None:
    bucket = Bucket(store.root)
    dataset = open_dataset("water", store=bucket)
    assert bucket.fetched == []
    for _ in range(2):
        dataset.read_group(1, ["energy"])
        dataset.read_group(0, ["energy"])
    shard = dataset.manifest.shards[0]
    key = dataset.manifest.key_of(shard)
    footer = shard.footer
    assert footer is not None
    wanted = [footer, shard.groups[1], shard.groups[0], shard.groups[1], shard.groups[0]]
    assert bucket.fetched == [(key, part.offset, part.bytes) for part in wanted]


def test_bytes_that_arrive_spoiled_are_fetched_again_once(store: LocalStore, periodic: pa.Table) -> None:
    bucket = Bucket(store.root)
    dataset = open_dataset("water", store=bucket)
    good = dataset.read_group(4)
    bucket.spoil = 1
    assert dataset.read_group(4).equals(good)
    bucket.spoil = 2
    with pytest.raises(DamagedDataError, match="crc32 expected"):
        dataset.read_group(4)
    assert bucket.spoil == 0


def test_a_cache_is_asked_first_and_holds_whole_groups(store: LocalStore, periodic: pa.Table, tmp_path: Path) -> None:
    bucket = Bucket(store.root)
    plain = open_dataset("water", store=store)
    dataset = open_dataset("water", store=bucket, cache=BlockCache(tmp_path / "cache", 1 << 24))
    assert dataset.read_group(2, ["id", "cell"]).equals(plain.read_group(2, ["id", "cell"]))
    fetched = len(bucket.fetched)
    for columns in (["energy"], None, ["cell", "id"]):
        assert dataset.read_group(2, columns).equals(plain.read_group(2, columns))
    assert len(bucket.fetched) == fetched
    again = open_dataset("water", store=bucket, cache=BlockCache(tmp_path / "cache", 1 << 24))
    assert again.table().equals(plain.table())
    assert len([key for key, _, _ in bucket.fetched if key == bucket.fetched[0][0]]) < 2 * len(plain.groups())


def test_a_dataset_is_opened_by_the_address_of_its_store(store: LocalStore, periodic: pa.Table) -> None:
    for uri in (
        f"{store.uri}/datasets/water",
        f"{store.uri}/datasets/water@1",
        f"{store.root}/datasets/water@1",
    ):
        assert len(open_dataset(uri)) == 40
    assert open_dataset("datasets/water@1", store=store).manifest.ref == "water@1"
    with pytest.raises(UserError, match=r"names no dataset on a store(.|\n)*<store>/datasets/<name>"):
        open_dataset("water")
    with pytest.raises(NotFoundError, match="there is no dataset 'wine'"):
        open_dataset(f"{store.root}/datasets/wine")
