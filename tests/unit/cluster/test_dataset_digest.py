"""Digests of content: equal for equal values, whatever the chunks and files; and files equal for equal values."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.conform import conform
from cluster.dataset.digest import content_digest, dataset_digest
from cluster.dataset.layout import GROUP_BYTES, SHARD_BYTES, content_bytes, group_rows, shard_cuts
from cluster.dataset.shards import write_shard
from cluster.dataset.tensors import tensor_array
from cluster.store import Store

Molecules = Callable[..., pa.Table]

# Versions published by an earlier release must be recognised by this one.
PINNED = "814fa8d7f442f2860ac1daf568f37d6408dc8ebab6062a31dc92c675e91c0097"


def pictures_of_version_1() -> pa.Table:
    pixels = pa.list_(pa.field("element", pa.float32(), nullable=False), 2)
    meaning = {"shape": "[1, 1, 2]", "meaning": "channels, rows, columns"}
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("pixels", pixels, nullable=False, metadata=meaning),
            pa.field("label", pa.int64(), nullable=False),
            pa.field("group", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
        ]
    )
    rows = [
        {"id": f"i{i}", "pixels": [i, 1], "label": i % 3, "group": f"i{i}", "split": "test" if i == 5 else "train"}
        for i in range(6)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def chunked(table: pa.Table, *cuts: int) -> pa.Table:
    ends = [0, *cuts, len(table)]
    return pa.concat_tables([table.slice(a, b - a) for a, b in pairwise(ends)])


def test_the_digest_of_version_1_never_changes() -> None:
    assert content_digest(pictures_of_version_1(), "images", 1) == PINNED


def test_the_digest_depends_on_values_not_on_chunks(molecules: Molecules) -> None:
    cell = tensor_array(np.arange(108.0).reshape(12, 3, 3))
    table = molecules().append_column("cell", cell).append_column("odd", pa.array([True, False] * 6))
    found = content_digest(table, "structures", 2)
    for cuts in ((1,), (1, 1, 4), (5, 11), tuple(range(1, 12))):
        assert content_digest(chunked(table, *cuts), "structures", 2) == found
    assert content_digest(pa.concat_tables([table.slice(3, 2), table]).slice(2), "structures", 2) == found
    assert content_digest(table, "structures", 3) != found
    assert content_digest(table.slice(1), "structures", 2) != found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([[1, 2], [3]], [[1], [2, 3]]),
        (["a"], [b"a".decode() + "\0"]),
        (tensor_array(np.zeros((1, 2, 3))), tensor_array(np.zeros((1, 3, 2)))),
        (tensor_array(np.zeros((1, 2), np.int64)), tensor_array(np.zeros((1, 2), np.float64))),
        (tensor_array(np.zeros((1, 2), np.uint8)), tensor_array(np.ones((1, 2), np.uint8))),
    ],
)
def test_the_digest_tells_different_columns_apart(one: object, other: object) -> None:
    digests = {content_digest(pa.table({"a": values}), "images", 2) for values in (one, other)}
    assert len(digests) == 2


def test_the_digest_of_a_dataset_is_of_its_kind_columns_and_shards_in_order(molecules: Molecules) -> None:
    schema = molecules().schema
    found = {
        dataset_digest("structures", 2, schema, ["a", "b"]),
        dataset_digest("structures", 2, schema, ["b", "a"]),
        dataset_digest("structures", 2, schema, ["a"]),
        dataset_digest("structures", 3, schema, ["a", "b"]),
        dataset_digest("table", 2, schema, ["a", "b"]),
        dataset_digest("structures", 2, schema.remove(3), ["a", "b"]),
    }
    assert len(found) == 6


def test_equal_rows_give_equal_files_however_they_come(store: Store, molecules: Molecules) -> None:
    table = conform(molecules(4), "structures")
    names = ["one", "other", "sliced", "changed"]
    forms = [table, chunked(table, 1, 3), pa.concat_tables([table, table]).slice(4), table.take([0, 1, 3, 2])]
    written = [
        write_shard(store, name, form, "structures", split="test") for name, form in zip(names, forms, strict=True)
    ]
    assert [w.shard == written[0].shard for w in written] == [True, True, True, False]
    assert len({store.read(f"datasets/{name}/{written[0].shard.path}") for name in names[:3]}) == 1


def test_a_shard_that_is_there_is_not_written_again(store: Store, molecules: Molecules) -> None:
    table = conform(molecules(4), "structures")
    first = write_shard(store, "water", table, "structures", split="test")
    key = f"datasets/water/{first.shard.path}"
    store.write(key, b"to be seen")
    assert write_shard(store, "water", table, "structures", split="test").shard == first.shard
    assert store.read(key) == b"to be seen"


def test_sizes_of_shards_and_groups_follow_from_the_values_alone(molecules: Molecules) -> None:
    table = molecules()
    sizes = {content_bytes(form) for form in (table, chunked(table, 5), pa.concat_tables([table, table]).slice(12))}
    texts = sum(4 + len(text) for name in ("id", "group", "split") for text in table[name].to_pylist())
    lists = sum(12 + len(row["numbers"]) * (1 + 24 + 24) for row in table.to_pylist())
    assert sizes == {texts + lists + 12 * 8}


def test_shards_are_about_64_mebibytes_and_equally_long() -> None:
    assert shard_cuts(10, 1000) == [0, 10]
    assert shard_cuts(3, 1000 * SHARD_BYTES) == [0, 1, 2, 3]
    cuts = shard_cuts(1_000_001, 10 * SHARD_BYTES)
    assert len(cuts) == 11
    assert set(np.diff(cuts)) == {100_000, 100_001}
    assert shard_cuts(12, 1000, rows_per_shard=5) == [0, 4, 8, 12]


@pytest.mark.parametrize(("rows", "each"), [(1, 10), (63, 10**6), (200, 10**6), (10**6, 3), (5000, 1600), (2622, 1600)])
def test_row_groups_are_about_4_mebibytes_within_bounds(rows: int, each: int) -> None:
    found = group_rows(rows, rows * each)
    number = -(-rows // found)
    last = rows - (number - 1) * found
    assert 1 <= found <= 65536
    assert found * each <= GROUP_BYTES or found <= 64
    assert last > found - number  # the last is hardly shorter
