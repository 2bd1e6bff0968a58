"""The cache of blocks: what it gives back, what it keeps under its bound, and what a bad disk does to it."""

import errno
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.cache import BlockCache
from cluster.errors import UserError

SIZE = 80_000  # bytes of a block's numbers


def block(number: int) -> pa.Table:
    return pa.table({"x": pa.array(np.full(SIZE // 8, number, dtype=np.float64))})


def files(cache: BlockCache) -> list[Path]:
    return sorted((cache.folder / "blocks").glob("*"))


def bytes_used(cache: BlockCache) -> int:
    """The slow twin of the ledger."""
    return sum(path.stat().st_size for path in files(cache))


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    return BlockCache(tmp_path / "cache", 1 << 30)


def test_what_was_put_is_got_with_its_types(cache: BlockCache) -> None:
    pixels = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(24, dtype=np.uint8).reshape(4, 2, 3))
    table = pa.table({"pixels": pixels, "id": ["a", "b", "c", "d"], "n": [[1, 2], [], [3], []]})
    cache.put("one", table)
    found = cache.get("one")
    assert found.equals(table)
    assert found.schema.equals(table.schema)
    assert cache.get("two") is None


def test_an_empty_table_is_a_table(cache: BlockCache) -> None:
    cache.put("none", block(0).slice(0, 0))
    assert cache.get("none").num_rows == 0


def test_a_table_is_read_where_it_is_mapped(cache: BlockCache) -> None:
    cache.put("one", block(7))
    before = pa.total_allocated_bytes()
    found = cache.get("one")
    assert pa.total_allocated_bytes() - before < SIZE / 10
    assert found["x"].chunk(0).buffers()[1].size >= SIZE


def test_a_table_outlives_its_file(cache: BlockCache) -> None:
    cache.put("one", block(7))
    found = cache.get("one")
    for path in files(cache):
        path.unlink()
    assert found.equals(block(7))


def test_many_mapped_tables_hold_no_file_open(cache: BlockCache) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        cache.put(str(number), block(number))
    found = [cache.get(str(number)) for number in range(20)]
    assert all(table is not None for table in found)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_any_text_is_a_key(cache: BlockCache) -> None:
    keys = ["../../escaped", "a/b", "", "ä" * 500]
    for number, key in enumerate(keys):
        cache.put(key, block(number))
    assert [cache.get(key)["x"][0].as_py() for key in keys] == [0, 1, 2, 3]
    assert {path.parent for path in files(cache)} == {cache.folder / "blocks"}


@pytest.mark.parametrize("where", [0, 100, SIZE // 2, -1, -5, -12, -20])
def test_a_flipped_byte_anywhere_is_a_miss_and_the_file_is_gone(cache: BlockCache, where: int) -> None:
    cache.put("one", block(1))
    path = files(cache)[0]
    body = bytearray(path.read_bytes())
    body[where] ^= 1
    path.write_bytes(body)
    assert cache.get("one") is None
    assert files(cache) == []
    cache.put("one", block(1))
    assert cache.get("one").equals(block(1))


@pytest.mark.parametrize("length", [0, 5, 19, 20, 1000])
def test_a_file_cut_short_is_a_miss_and_gone(cache: BlockCache, length: int) -> None:
    cache.put("one", block(1))
    path = files(cache)[0]
    path.write_bytes(path.read_bytes()[:length])
    assert cache.get("one") is None
    assert files(cache) == []


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 5 * SIZE)
    for number in range(4):
        cache.put(str(number), block(number))
    assert cache.get("0") is not None
    cache.put("4", block(4))
    cache.put("5", block(5))
    kept = [number for number in range(6) if cache.get(str(number)) is not None]
    assert 1 not in kept
    assert {0, 5} <= set(kept)
    assert cache.used() == bytes_used(cache) <= cache.limit


def test_the_bound_holds_at_every_moment(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 7 * SIZE)
    seen = []
    for number in range(40):
        cache.put(str(number), block(number))
        seen.append(bytes_used(cache))
    assert max(seen) <= cache.limit
    assert min(seen[7:]) > cache.limit // 2  # and it does not throw away more than it must


def test_a_block_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, SIZE // 2)
    cache.put("one", block(1))
    assert cache.get("one") is None
    assert not cache.folder.joinpath("blocks").exists()


def test_a_ledger_that_is_lost_or_nonsense_is_counted_again(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 5 * SIZE)
    for number, text in enumerate([None, b"", b"nonsense", b"-5", b"0"] * 4):
        if text is not None and text != b"0":
            (cache.folder / "used").write_bytes(text)
        elif (cache.folder / "used").exists():
            (cache.folder / "used").unlink()
        cache.put(str(number), block(number))
        assert bytes_used(cache) <= cache.limit
    assert cache.get("19") is not None


def test_a_put_that_was_killed_leaves_nothing_that_counts_for_long(tmp_path: Path) -> None:
    program = """
        import os, signal, sys
        sys.path[:0] = sys.argv[2:]
        import cluster.dataset.cache as module
        import pyarrow as pa
        module.os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
        module.BlockCache(module.Path(sys.argv[1]), 250_000).put("dead", pa.table({"x": [0.0] * 10_000}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path), os.getcwd()], check=False)
    assert done.returncode < 0
    cache = BlockCache(tmp_path, 250_000)
    assert [path.suffix for path in files(cache)] == [".part"]
    assert cache.get("dead") is None
    for number in range(3):
        cache.put(str(number), block(number))
    assert all(path.suffix == ".arrow" for path in files(cache))
    assert cache.get("2") is not None


def test_a_block_being_written_counts_and_is_not_taken_for_abandoned(tmp_path: Path, monkeypatch) -> None:
    cache = BlockCache(tmp_path, 3 * SIZE)
    inside, go_on = threading.Event(), threading.Event()
    trailer = sys.modules[BlockCache.__module__]._trailer

    def slowly(body: pa.Buffer) -> bytes:
        if threading.current_thread().name == "slow":
            inside.set()
            go_on.wait(10)
        return bytes(trailer(body))

    monkeypatch.setattr(sys.modules[BlockCache.__module__], "_trailer", slowly)
    writer = threading.Thread(target=cache.put, args=("slow", block(0)), name="slow")
    writer.start()
    assert inside.wait(10)
    for number in range(4):
        cache.put(str(number), block(number))
        assert bytes_used(cache) <= cache.limit
    go_on.set()
    writer.join(10)
    assert cache.get("slow").equals(block(0))
    assert bytes_used(cache) <= cache.limit


class FullDisk:
    """What writing to a full disk does, in place of the cache's file."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, descriptor: int, length: int) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "Input/output error")])
def test_what_the_disk_refuses_is_warned_of_once(cache: BlockCache, monkeypatch, number: int, words: str) -> None:
    cache.put("before", block(1))
    monkeypatch.setattr(os, "ftruncate", FullDisk(number))
    with pytest.warns(RuntimeWarning, match=f"{words}. Nothing is lost"):
        cache.put("one", block(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("two", block(2))
        with cache.held("three"):
            assert cache.get("three") is None
    assert cache.get("before").equals(block(1))
    assert len(files(cache)) == 1


def test_a_folder_that_cannot_be_made_is_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = BlockCache(tmp_path / "file" / "cache", 1 << 20)
    with pytest.warns(RuntimeWarning, match="is not used any more: Not a directory"):
        cache.put("one", block(1))
    with cache.held("one"):
        cache.put("one", block(1))
        assert cache.get("one") is None


def test_an_error_inside_the_block_passes_through_and_frees_the_key(cache: BlockCache) -> None:
    with pytest.raises(OSError, match="mine"), cache.held("one"):
        raise OSError("mine")
    with cache.held("one"):
        cache.put("one", block(1))
    assert cache.get("one") is not None


def test_a_holder_that_hangs_is_not_waited_for_for_ever(cache: BlockCache, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[BlockCache.__module__], "_WAIT", 0.05)
    with cache.held("one"):
        passed = threading.Event()

        def enter() -> None:
            with cache.held("one"):
                passed.set()

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(10)
    assert passed.is_set()


def test_of_many_threads_one_fetches_each_block(cache: BlockCache) -> None:
    fetched: list[int] = []

    def read(number: int) -> None:
        with cache.held(str(number)):
            if cache.get(str(number)) is None:
                fetched.append(number)
                cache.put(str(number), block(number))

    threads = [threading.Thread(target=read, args=(index % 5,)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == [0, 1, 2, 3, 4]


def test_a_cache_travels_by_its_folder(cache: BlockCache) -> None:
    cache.put("one", block(1))
    again = pickle.loads(pickle.dumps(cache))
    assert again.get("one").equals(block(1))
    assert again.limit == cache.limit


@pytest.mark.parametrize("limit", [0, -1])
def test_a_bound_that_holds_nothing_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(UserError, match=f"a cache of {limit} bytes"):
        BlockCache(tmp_path, limit)
