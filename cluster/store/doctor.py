"""What a store must keep to be ours: checks that run against any store, in tests and as `equi store doctor`.

Each check takes a store and an empty folder of it, and raises `StoreError` saying what is broken.
"""

import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store.documents import decode_json, read_json, swap_json
from cluster.store.interface import Store
from cluster.store.keys import join

Check = Callable[[Store, str], None]
RACERS = 8
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `problem` is None where it passed."""

    check: str
    meaning: str
    problem: str | None


def examine(store: Store, checks: Mapping[str, Check] | None = None) -> Iterator[Finding]:
    """Run each check (all by default) in a folder of its own, which is removed; yields each finding."""
    store.check_writable()
    for name, check in (CHECKS if checks is None else checks).items():
        folder = f"probes/{uuid.uuid4().hex}"
        problem = None
        try:
            check(store, folder)
        except StoreError as error:
            problem = str(error)
        finally:
            store.delete_folder(folder)
        yield Finding(name, (check.__doc__ or "").strip(), problem)


def _demand(condition: bool, problem: str) -> None:
    if not condition:
        raise StoreError(problem)


def _refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except PreconditionFailedError:
        return True
    return False


def _race(write: Callable[[int], object]) -> list[int]:
    """Call `write` from many threads at once; returns the numbers of those that were not refused."""
    start = threading.Barrier(RACERS)

    def run(number: int) -> bool:
        start.wait()
        return not _refused(lambda: write(number))

    with ThreadPoolExecutor(RACERS) as pool:
        return [number for number, won in enumerate(pool.map(run, range(RACERS))) if won]


def _body(number: int) -> bytes:
    return f"writer {number}".encode()  # distinct: two equal bodies could not be told apart


def what_is_written_is_read(store: Store, folder: str) -> None:
    """An object reads back as it was written, at once, and again after it was overwritten."""
    for number in range(20):
        key = join(folder, f"object-{number % 5}")
        store.write(key, _body(number))
        _demand(store.read(key) == _body(number), f"read number {number} returned an older object")
    empty = join(folder, "empty")
    store.write(empty, b"")
    _demand(store.read(empty) == b"" and store.exists(empty), "an empty object did not read back")


def what_is_deleted_is_gone(store: Store, folder: str) -> None:
    """A deleted object is not read, listed or said to exist, and deleting it again is no error."""
    key = join(folder, "object")
    store.write(key, b"x")
    store.delete(key)
    store.delete(key)
    _demand(not store.exists(key) and key not in store.list(folder), "a deleted object still exists")
    try:
        store.read(key)
    except NotFoundError:
        return
    raise StoreError("a deleted object could be read")


def the_first_creation_wins(store: Store, folder: str) -> None:
    """Create-if-absent is refused where the object exists, and leaves it as it was."""
    key = join(folder, "object")
    store.write(key, b"first", if_absent=True)
    _demand(_refused(lambda: store.write(key, b"second", if_absent=True)), "a second creation was accepted")
    _demand(store.read(key) == b"first", "a refused creation changed the object")


def one_of_many_creations_wins(store: Store, folder: str) -> None:
    """Of eight simultaneous creations exactly one wins, and its bytes are the ones that stay."""
    for trial in range(3):
        key = join(folder, f"race-{trial}")
        won = _race(lambda number, key=key: store.write(key, _body(number), if_absent=True))  # type: ignore[misc]
        _demand(len(won) == 1, f"{len(won)} of {RACERS} simultaneous creations won, not one")
        _demand(store.read(key) == _body(won[0]), "the object is not that of the winner")


def a_stale_swap_is_refused(store: Store, folder: str) -> None:
    """Compare-and-swap succeeds with the etag of the object; an older one, or no object, refuses it."""
    key = join(folder, "object")
    first = store.write(key, b"first")
    _demand(store.read_tagged(key)[1] == first, "the etag of a write is not the etag that is read")
    second = store.write(key, b"second", if_match=first)
    _demand(_refused(lambda: store.write(key, b"third", if_match=first)), "a stale swap was accepted")
    _demand(store.read_tagged(key) == (b"second", second), "a refused swap changed the object")
    store.delete(key)
    _demand(_refused(lambda: store.write(key, b"fourth", if_match=second)), "a swap created an object")


def one_of_many_swaps_wins(store: Store, folder: str) -> None:
    """Of eight simultaneous swaps with the same etag exactly one wins."""
    for trial in range(3):
        key = join(folder, f"race-{trial}")
        etag = store.write(key, b"start")

        def swap(number: int, key: str = key, etag: str = etag) -> str:
            return store.write(key, _body(number), if_match=etag)

        won = _race(swap)
        _demand(len(won) == 1, f"{len(won)} of {RACERS} simultaneous swaps won, not one")
        _demand(store.read(key) == _body(won[0]), "the object is not that of the winner")


def no_change_is_lost(store: Store, folder: str) -> None:
    """Eight writers that each add their name to one document all find it there in the end."""
    key = join(folder, "names.json")

    def add(number: int) -> None:
        swap_json(store, key, lambda old: {**(old or {}), str(number): True}, attempts=64)

    _race(add)
    found = sorted(decode_json(store.read(key), key))
    _demand(found == [str(number) for number in range(RACERS)], f"only {found} of {RACERS} changes are left")
    _demand(read_json(store, key).keys() == set(found), "the document changed between two reads")


def a_prefix_is_a_folder(store: Store, folder: str) -> None:
    """Listing is sorted and complete, and 'runs/1' does not list 'runs/10'."""
    names = ["runs/1/a", "runs/1/deep/er/b", "runs/10/c", "runs/2"]
    keys = [join(folder, name) for name in names]
    for key in keys:
        store.write(key, b"x")
    _demand(store.list(folder) == keys, f"listing returned {store.list(folder)}, not {keys}")
    _demand(store.list(join(folder, "runs/1")) == keys[:2], "a folder listed more or less than its own objects")
    _demand(store.children(join(folder, "runs")) == ["1", "10"], "the folders are not listed")
    _demand(store.list(join(folder, "nowhere")) == [], "a folder that does not exist is not empty")
    _demand(store.children(join(folder, "nowhere")) == [], "a folder that does not exist has folders")


def a_folder_travels_both_ways(store: Store, folder: str) -> None:
    """A folder with a file of 12 MiB (several parts in a bucket) comes back as it went."""
    large = np.random.default_rng(0).bytes(12 * MEGABYTE + 1)
    with tempfile.TemporaryDirectory() as scratch:
        out, back = Path(scratch, "out"), Path(scratch, "back")
        (out / "inner").mkdir(parents=True)
        (out / "large").write_bytes(large)
        (out / "inner" / "a b,c=1.txt").write_bytes(b"small")
        (out / "COMMIT.json").write_bytes(b"{}")
        keys = store.upload(out, folder, last="COMMIT.json")
        _demand(keys[-1] == join(folder, "COMMIT.json"), "the last file was not written last")
        store.download(folder, back)
        for path in ("large", "inner/a b,c=1.txt", "COMMIT.json"):
            _demand((back / path).read_bytes() == (out / path).read_bytes(), f"{path} came back changed")


def arrow_reads_ranges(store: Store, folder: str) -> None:
    """Arrow reads ranges of an object from many threads, and one column of a Parquet file, correctly."""
    body = np.random.default_rng(1).bytes(MEGABYTE)
    key = join(folder, "bytes")
    store.write(key, body)
    filesystem, base = store.arrow()

    def piece(number: int) -> bool:
        start = (number * 40_009) % (MEGABYTE - 4096)
        with filesystem.open_input_file(join_path(base, key)) as file:
            file.seek(start)
            return bytes(file.read(4096)) == body[start : start + 4096]

    with ThreadPoolExecutor(4) as pool:
        wrong = [number for number, same in enumerate(pool.map(piece, range(16))) if not same]
    _demand(not wrong, f"{len(wrong)} of 16 ranges were read wrongly")
    sink = pa.BufferOutputStream()
    table = pa.table({"a": np.arange(10_000), "b": np.random.default_rng(2).random(10_000)})
    pq.write_table(table, sink, row_group_size=512)
    store.write(join(folder, "table.parquet"), sink.getvalue().to_pybytes())
    path = join_path(base, join(folder, "table.parquet"))
    found = pq.read_table(path, filesystem=filesystem, columns=["a"])
    _demand(found.equals(table.select(["a"])), "a column of a Parquet file was read wrongly")


def join_path(base: str, key: str) -> str:
    """The path on `Store.arrow()`'s filesystem of the object `key`."""
    return f"{base.rstrip('/')}/{key}"


CHECKS: dict[str, Check] = {
    check.__name__.replace("_", " "): check
    for check in (
        what_is_written_is_read,
        what_is_deleted_is_gone,
        the_first_creation_wins,
        one_of_many_creations_wins,
        a_stale_swap_is_refused,
        one_of_many_swaps_wins,
        no_change_is_lost,
        a_prefix_is_a_folder,
        a_folder_travels_both_ways,
        arrow_reads_ranges,
    )
}
