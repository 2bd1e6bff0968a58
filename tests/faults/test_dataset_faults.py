"""Datasets on an S3 server that fails: every row arrives once and right, or an error names what is broken."""

import re
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset import layout
from cluster.dataset.catalog import list_datasets
from cluster.dataset.commit import Published
from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.publish import publish_dataset, publish_table
from cluster.dataset.tensors import tensor_array
from cluster.dataset.verify import verify_dataset
from cluster.errors import DamagedDataError, NotFoundError, StoreError
from cluster.store import decode_json, encode_json
from cluster.store.s3 import S3Store
from cluster.store.s3_client import S3Times

pytestmark = pytest.mark.integration

SILENCE = 0.5  # seconds that the store of these tests waits for a byte
EACH = 8  # rows of a row group, so that there are several of them
SHARD = r"shards/[0-9a-f]{40}\.parquet"


def waves(rows: int = 60, seed: int = 0) -> pa.Table:
    """Noise that does not compress; the last fifth is the test split."""
    values = np.random.default_rng(seed).normal(size=(rows, 1, 256))
    names = [f"wave-{row:03d}" for row in range(rows)]
    splits = ["test" if row >= rows * 4 // 5 else "train" for row in range(rows)]
    return pa.table({"id": names, "values": tensor_array(values), "group": names, "split": splits})


@pytest.fixture
def bucket(s3_environment, monkeypatch) -> S3Store:
    monkeypatch.setattr(layout, "GROUP_ROWS", (EACH, EACH))
    name, _, prefix = s3_environment.uri().removeprefix("s3://").partition("/")
    return S3Store(name, prefix, S3Times(connect=1.0, read=SILENCE, patience=20.0))


@pytest.fixture
def dataset(bucket: S3Store) -> Dataset:
    """Two shards, of six and two row groups."""
    publish_dataset(bucket, "waves", waves(), kind="signals", provenance={})
    opened = open_dataset("waves", store=bucket)
    assert [len(shard.groups) for shard in opened.manifest.shards] == [6, 2]
    return opened


def rows_of(dataset: Dataset) -> list[str]:
    """Every row as its id and what its numbers sum up to, read by row group from four threads."""
    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(dataset.read_group, range(len(dataset.groups()))))
    table = pa.concat_tables(tables)
    values = table["values"].combine_chunks().to_numpy_ndarray()
    return [f"{name} {zlib.crc32(row):08x}" for name, row in zip(table["id"].to_pylist(), values, strict=True)]


def right() -> list[str]:
    values = waves()["values"].combine_chunks().to_numpy_ndarray()
    return [f"wave-{row:03d} {zlib.crc32(values[row]):08x}" for row in range(len(values))]


IN_TRANSIT: list[dict[str, Any]] = [
    {"kind": "503"},
    {"kind": "reset"},
    {"kind": "reset", "keep": 0.5},
    {"kind": "truncate"},
    {"kind": "short"},
    {"kind": "stall", "seconds": 2 * SILENCE},
    {"kind": "delay", "seconds": 2 * SILENCE},
    {"kind": "lost"},
    {"kind": "flip"},
]


@pytest.mark.parametrize("fault", IN_TRANSIT, ids=lambda fault: f"{fault['kind']}{fault.get('keep', '')}")
def test_every_row_arrives_once_though_the_way_fails(dataset: Dataset, s3_environment, fault: dict[str, Any]) -> None:
    for number in (0, 7):  # so that the fault meets a row group, and not the footers
        dataset.read_group(number)
    s3_environment.break_next({"method": "GET", "path": r"\.parquet", **fault})
    assert rows_of(dataset) == right()
    assert s3_environment.faults_left() == 0


def test_every_row_arrives_once_in_a_storm(bucket: S3Store, dataset: Dataset, s3_environment) -> None:
    again = open_dataset("waves", store=bucket)
    kinds = [{"kind": kind, "times": 2} for kind in ("truncate", "short", "reset")]
    s3_environment.break_next(
        *({"method": "GET", "path": r"\.parquet", **fault} for fault in (*kinds, {"kind": "503"}, IN_TRANSIT[5]))
    )
    assert rows_of(again) == right()
    assert s3_environment.faults_left() == 0


def test_a_manifest_that_breaks_off_is_read(bucket: S3Store, dataset: Dataset, s3_environment) -> None:
    s3_environment.break_next({"method": "GET", "path": "manifest", "kind": "truncate", "times": 3})
    assert open_dataset("waves", store=bucket).manifest == dataset.manifest
    assert s3_environment.faults_left() == 0


def test_a_byte_that_flips_in_transit_is_fetched_again(dataset: Dataset, s3_environment) -> None:
    good = [dataset.read_group(number) for number in range(8)]
    shard = dataset.manifest.shards[0]
    for number in range(6):
        s3_environment.break_next({"method": "GET", "path": r"\.parquet", "kind": "flip", "at": -1 - number})
        assert dataset.read_group(number).equals(good[number])
        assert s3_environment.faults_left() == 0
        span = shard.groups[number]
        wanted = f"bytes={span.offset}-{span.offset + span.bytes - 1}"
        assert [found for _, _, found in s3_environment.requests()] == [wanted, wanted]


def test_a_byte_that_flips_for_ever_is_named(bucket: S3Store, dataset: Dataset, s3_environment) -> None:
    dataset.read_group(0)
    shard = dataset.manifest.shards[0]
    span = shard.groups[2]
    body = bytearray(bucket.read_range(dataset.manifest.key_of(shard), span.offset, span.bytes))
    body[100] ^= 1
    s3_environment.break_next({"method": "GET", "path": r"\.parquet", "kind": "flip", "at": 100, "times": 99})
    with pytest.raises(DamagedDataError) as caught:
        dataset.read_group(2)
    assert caught.value.message == (
        f"dataset waves@1: shard {shard.path}, row group 2: "
        f"crc32 expected {span.crc32:08x}, found {zlib.crc32(body):08x}"
    )
    s3_environment.break_next()
    assert rows_of(dataset) == right()  # and nothing wrong was kept


def test_a_footer_that_flips_is_fetched_again_or_named(bucket: S3Store, dataset: Dataset, s3_environment) -> None:
    s3_environment.break_next({"method": "GET", "path": r"\.parquet", "kind": "flip"})
    assert open_dataset("waves", store=bucket).read_group(0)["id"][0].as_py() == "wave-000"
    s3_environment.break_next({"method": "GET", "path": r"\.parquet", "kind": "flip", "times": 99})
    with pytest.raises(DamagedDataError, match=rf"shard {SHARD}, footer: crc32 expected [0-9a-f]{{8}}, found"):
        open_dataset("waves", store=bucket).read_group(0)


def test_a_byte_that_changed_on_the_store_is_named(bucket: S3Store, dataset: Dataset) -> None:
    shard = dataset.manifest.shards[1]
    key = dataset.manifest.key_of(shard)
    data = bytearray(bucket.read(key))
    data[shard.groups[1].offset + 50] ^= 1
    bucket.write(key, bytes(data))
    for number in range(7):
        dataset.read_group(number)
    words = rf"dataset waves@1: shard {re.escape(shard.path)}, row group 1: crc32 expected"
    with pytest.raises(DamagedDataError, match=words):
        dataset.read_group(7)
    assert any(re.search(r"row group 1", problem) for problem in verify_dataset(bucket, "waves"))


def test_a_missing_shard_is_named(bucket: S3Store, dataset: Dataset, s3_environment) -> None:
    shard = dataset.manifest.shards[1]
    bucket.delete(dataset.manifest.key_of(shard))
    words = rf"dataset waves@1 has lost a shard: {re.escape(shard.path)} is not in {re.escape(bucket.uri)}"
    with pytest.raises(NotFoundError, match=words):
        dataset.read_group(6)
    assert dataset.read_group(5).num_rows == EACH  # the other shard is as it was


def test_a_shard_that_was_cut_short_is_named(bucket: S3Store, dataset: Dataset) -> None:
    dataset.read_group(0)
    shard = dataset.manifest.shards[0]
    key = dataset.manifest.key_of(shard)
    bucket.write(key, bucket.read(key)[: shard.groups[5].offset + 10])
    with pytest.raises(StoreError, match=rf"{re.escape(shard.path)}.* bytes, not {shard.groups[5].bytes} from"):
        dataset.read_group(5)


def test_a_manifest_of_a_newer_version_is_refused(bucket: S3Store, dataset: Dataset) -> None:
    key = "datasets/waves/1/manifest.json"
    document = decode_json(bucket.read(key), key)
    bucket.write("datasets/waves/2/manifest.json", encode_json({**document, "schema_version": 99, "version": 2}))
    with pytest.raises(StoreError, match=r"waves.*99"):
        open_dataset("waves", store=bucket)
    assert rows_of(open_dataset("waves@1", store=bucket)) == right()


def publish(bucket: S3Store, *tables: pa.Table) -> list[Published]:
    """Publish all tables under one name at once, each through a store of its own."""
    barrier = threading.Barrier(len(tables))

    class Meets(S3Store):
        def write(self, key: str, data: bytes, **conditions: Any) -> str:
            if key == "datasets/waves/1/manifest.json":
                barrier.wait(30)
            return super().write(key, data, **conditions)

    def run(table: pa.Table) -> Published:
        store = Meets(bucket.bucket, bucket.prefix, bucket._times)
        return publish_table(store, "waves", table, kind="signals", provenance={})

    with ThreadPoolExecutor(len(tables)) as pool:
        return sorted(pool.map(run, tables), key=lambda one: (one.manifest.version, one.existed))


def kept(bucket: S3Store, published: list[Published]) -> Iterator[list[str]]:
    """The ids and problems of each version, read again."""
    for one in published:
        opened = open_dataset(one.manifest.ref, store=bucket)
        yield [*opened.identifiers(range(len(opened))), *verify_dataset(bucket, one.manifest.ref)]


@pytest.mark.parametrize("fault", [None, {"kind": "lost", "times": 2}], ids=["whole", "answers lost"])
def test_of_two_publications_at_once_one_wins_and_the_other_says_so(bucket: S3Store, s3_environment, fault) -> None:
    tables = [waves(40, seed=1), waves(48, seed=2)]
    if fault:
        s3_environment.break_next({"method": "PUT", "path": "manifest", **fault})
    winner, loser = publish(bucket, *tables)
    assert s3_environment.faults_left() == 0
    assert [winner.manifest.ref, loser.manifest.ref] == ["waves@1", "waves@2"]
    assert (winner.outran, winner.notice) == ((), None)
    assert loser.outran == ("waves@1",)
    assert loser.notice == "waves@1 was published by others meanwhile; this is waves@2"
    expected = sorted(table["id"].to_pylist() for table in tables)
    assert sorted(kept(bucket, [winner, loser])) == expected


def test_of_equal_publications_at_once_both_are_one_version(bucket: S3Store, s3_environment) -> None:
    s3_environment.break_next({"method": "PUT", "path": "manifest", "kind": "lost"})
    published = publish(bucket, waves(), waves())
    assert [one.manifest.ref for one in published] == ["waves@1", "waves@1"]
    assert [one.existed for one in published] == [False, True]
    assert [manifest.ref for manifest in list_datasets(bucket)] == ["waves@1"]


@pytest.mark.parametrize("kind", ["503", "reset", "lost"])
def test_a_publication_in_a_storm_is_one_whole_version(bucket: S3Store, s3_environment, kind: str) -> None:
    places = [("PUT", r"\.parquet"), ("PUT", "manifest"), ("HEAD", "")]
    s3_environment.break_next(*({"method": method, "path": path, "kind": kind} for method, path in places))
    published = publish_table(bucket, "waves", waves(), kind="signals", provenance={})
    assert s3_environment.faults_left() == 0
    assert (published.manifest.version, published.outran, published.existed) == (1, (), False)
    assert [manifest.ref for manifest in list_datasets(bucket)] == ["waves@1"]
    assert verify_dataset(bucket, "waves") == []
    assert rows_of(open_dataset("waves", store=bucket)) == right()
