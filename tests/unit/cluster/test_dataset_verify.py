"""Verification: an intact dataset is called so, and whatever was changed is named."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from cluster.dataset import layout
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.publish import publish_dataset
from cluster.dataset.read import load_manifest
from cluster.dataset.verify import verify_dataset
from cluster.store import Store, decode_json

Molecules = Callable[..., pa.Table]


@pytest.fixture
def water(store: Store, molecules: Molecules, monkeypatch: pytest.MonkeyPatch) -> DatasetManifest:
    """water@1: shards of train rows 0 to 7 and 8 to 15, and of test rows 16 to 19; row groups of 3."""
    monkeypatch.setattr(layout, "GROUP_ROWS", (3, 3))
    return publish_dataset(store, "water", molecules(20), kind="structures", provenance={}, rows_per_shard=8)


def change(store: Store, key: str, place: int) -> None:
    data = bytearray(store.read(key))
    data[place] ^= 16
    store.write(key, bytes(data))


def rewrite(store: Store, manifest: DatasetManifest, **changes: Any) -> None:
    """Change the manifest on the store."""
    key = f"{manifest.folder}/manifest.json"
    document = decode_json(store.read(key), key)
    store.write(key, DatasetManifest.model_validate({**document, **changes}).encode())


def test_what_was_published_is_intact(store: Store, water: DatasetManifest) -> None:
    assert [len(shard.groups) for shard in water.shards] == [3, 3, 2]
    assert verify_dataset(store, "water") == []


@pytest.mark.parametrize(("number", "place"), [(0, 0), (0, 2), (1, 1), (2, 1)])
def test_a_changed_byte_is_named_with_its_row_group(
    store: Store, water: DatasetManifest, number: int, place: int
) -> None:
    shard = water.shards[number]
    group = shard.groups[place]
    change(store, water.key_of(shard), group.offset + group.bytes - 1)
    (problem,) = verify_dataset(store, "water")
    start = f"{shard.path} is not the file that was published: row group {place}, crc32 expected {group.crc32:08x}, "
    assert problem.startswith(f"{start}found ")
    assert not problem.endswith(f"{group.crc32:08x}")


def test_every_byte_of_a_shard_counts(store: Store, water: DatasetManifest) -> None:
    shard = water.shards[2]
    key = water.key_of(shard)
    good = store.read(key)
    for place in range(0, len(good), 41):
        change(store, key, place)
        (problem,) = verify_dataset(store, "water")
        inside = [n for n, g in enumerate(shard.groups) if g.offset <= place < g.offset + g.bytes]
        named = f"row group {inside[0]}," if inside else "sha256 expected" if place < 4 else "footer,"
        assert named in problem
        store.write(key, good)


def test_several_damages_are_all_named(store: Store, water: DatasetManifest) -> None:
    change(store, water.key_of(water.shards[0]), 10)
    change(store, water.key_of(water.shards[0]), -20)
    store.delete(water.key_of(water.shards[1]))
    store.write(water.key_of(water.shards[2]), b"short")
    problems = verify_dataset(store, "water")
    assert ["row group 0" in problems[0], "footer" in problems[1]] == [True, True]
    assert problems[2] == f"{water.shards[1].path} is missing"
    assert problems[3].endswith(f"5 bytes instead of {water.shards[2].bytes}")


def test_a_shard_of_another_dataset_is_found(store: Store, molecules: Molecules, water: DatasetManifest) -> None:
    other = publish_dataset(store, "water", molecules(20, seed=1), kind="structures", provenance={}, rows_per_shard=8)
    swapped = [shard.model_dump(mode="json") for shard in (*other.shards[:1], *water.shards[1:])]
    rewrite(store, water, shards=swapped)
    assert "the shards of the manifest are not the ones its digest was made of" in verify_dataset(store, "water@1")
    assert verify_dataset(store, "water@2") == []


def test_a_content_digest_that_is_not_of_the_rows_is_found(store: Store, water: DatasetManifest) -> None:
    shards = [shard.model_dump(mode="json") for shard in water.shards]
    rewrite(store, water, shards=[{**shards[0], "content": "0" * 64}, *shards[1:]])
    assert any(
        f"digest of the rows expected {'0' * 64}, found" in problem for problem in verify_dataset(store, "water")
    )


def test_wrong_counts_of_rows_are_found(store: Store, water: DatasetManifest) -> None:
    rewrite(store, water, splits={"train": 15, "test": 5})
    assert "there are {'train': 16, 'test': 4}" in verify_dataset(store, "water")[0]


def test_sizes_of_other_rows_are_found(store: Store, molecules: Molecules, water: DatasetManifest) -> None:
    other = publish_dataset(store, "water", molecules(20, seed=1), kind="structures", provenance={})
    assert other.sizes is not None
    rewrite(store, water, sizes=other.sizes.model_dump())
    assert verify_dataset(store, "water@1") == ["the sizes beside the shards are not those of the rows"]
    store.delete(other.key_of(other.sizes))
    assert verify_dataset(store, "water@1") == [f"dataset water@1 has lost {other.sizes.path}"]


def test_the_same_rows_ingested_again_mend_what_was_lost(
    store: Store, molecules: Molecules, water: DatasetManifest
) -> None:
    for shard in water.shards:
        store.delete(water.key_of(shard))
    assert len(verify_dataset(store, "water")) == 3
    publish_dataset(store, "water", molecules(20), kind="structures", provenance={}, rows_per_shard=8)
    assert verify_dataset(store, "water@1") == []
    assert load_manifest(store, "water") == water
