"""Ranges of objects and writes that were not finished, in a folder."""

import os
import random
from datetime import UTC, datetime, timedelta

import pytest

from cluster.errors import NotFoundError, StoreError
from cluster.store import Store
from cluster.store.interface import Store as Interface
from cluster.store.local import LocalStore
from cluster.store.uploads import clean_uploads

DATA = bytes(range(256)) * 40


def test_every_range_is_that_slice(store: Store) -> None:
    store.write("object", DATA)
    for _ in range(200):
        start, end = sorted(random.randrange(len(DATA) + 1) for _ in range(2))
        assert store.read_range("object", start, end - start) == DATA[start:end]
        if start < len(DATA):
            assert store.read_range("object", start - len(DATA), end - start) == DATA[start:end]


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, len(DATA) + 1), (len(DATA), 1), (-1, 2), (-len(DATA) - 1, 3), (10**9, 1), (10**9, 0), (0, -1), (5, -1)],
)
def test_a_range_that_the_object_does_not_hold_is_an_error(store: Store, offset: int, length: int) -> None:
    store.write("object", DATA)
    with pytest.raises(StoreError, match=f"'object' has {len(DATA)} bytes, not {length} from {offset} on"):
        store.read_range("object", offset, length)


def test_a_range_of_nothing_is_empty_and_a_missing_object_has_none(store: Store) -> None:
    store.write("empty", b"")
    assert store.read_range("empty", 0, 0) == b""
    for length in (0, 1):
        with pytest.raises(NotFoundError, match="'nothing'"):
            store.read_range("nothing", 0, length)
    with pytest.raises(StoreError, match="is not a key"):
        store.read_range("../up", 0, 1)


def test_a_file_that_is_cut_while_it_is_read_is_an_error(store: LocalStore, monkeypatch) -> None:
    store.write("object", DATA)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda number, length, offset: pread(number, min(length, 100), offset)[:100])
    assert store.read_range("object", 10, 1000) == DATA[10:1010]  # short reads are put together
    monkeypatch.setattr(os, "pread", lambda number, length, offset: b"")
    with pytest.raises(StoreError, match="cut off"):
        store.read_range("object", 10, 1000)


def test_a_folder_names_the_file_and_other_stores_none(store: LocalStore) -> None:
    store.write("a/b", b"x")
    assert store.local_path("a/b") == store.root / "a" / "b"
    assert store.local_path("a/b").read_bytes() == b"x"
    assert Interface.local_path(store, "a/b") is None
    for kind in (LocalStore, Interface):
        with pytest.raises(StoreError, match="is not a key"):
            kind.local_path(store, "../up")


def test_only_old_unfinished_writes_are_removed(store: LocalStore) -> None:
    store.write("object", b"x")
    old, young = store.begin("old", b"1"), store.begin("young", b"2")
    part = store.root / ".store" / "parts" / old.mark
    yesterday = (datetime.now(UTC) - timedelta(hours=25)).timestamp()
    os.utime(part, (yesterday, yesterday))
    assert [upload.mark for upload in store.unfinished()] == [old.mark, young.mark]
    assert [upload.mark for upload in clean_uploads(store)] == [old.mark]
    assert [upload.mark for upload in store.unfinished()] == [young.mark]
    assert clean_uploads(store) == []
    assert [upload.mark for upload in clean_uploads(store, timedelta(0))] == [young.mark]
    assert store.list() == ["object"]


def test_an_unfinished_write_that_is_gone_is_no_error(store: Store) -> None:
    assert store.unfinished() == []
    upload = store.begin("object", b"1")
    store.abandon(upload)
    store.abandon(upload)
    assert store.unfinished() == []
