"""Checks of ranged reads, by which training fetches one row group of a shard and no more."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import StoreError
from cluster.store.checking import check, demand
from cluster.store.interface import Store
from cluster.store.keys import join

MEGABYTE = 1 << 20
RANGES = 64
READERS = 8


@check("training would get rows of other structures, or stop at damage that is in no file")
def ranges_are_read_exactly(store: Store, folder: str) -> None:
    """64 ranges of an object, read by eight threads at once, are its bytes."""
    data = np.random.default_rng(0).bytes(4 * MEGABYTE)
    key = join(folder, "bytes")
    store.write(key, data)
    random = np.random.default_rng(1)
    lengths = [1, 8, 4096, *random.integers(1, MEGABYTE, RANGES - 4).tolist(), len(data)]
    ranges = [(int(random.integers(0, len(data) - length + 1)), length) for length in lengths]

    def right(piece: tuple[int, int]) -> bool:
        offset, length = piece
        try:
            return store.read_range(key, offset, length) == data[offset : offset + length]
        except StoreError:
            return False

    with ThreadPoolExecutor(READERS) as pool:
        wrong = sum(not same for same in pool.map(right, ranges))
    demand(wrong == 0, f"{wrong} of {RANGES} ranges came back wrong with {READERS} readers at once")


@check("a dataset could not be opened without fetching its shards whole: their directory is at the end")
def the_end_of_an_object_is_read(store: Store, folder: str) -> None:
    """A range counted from the end of an object is its end, however long the object is."""
    data = np.random.default_rng(2).bytes(100_000)
    key = join(folder, "bytes")
    store.write(key, data)
    for length in (1, 8, 4096, len(data)):
        found = store.read_range(key, -length, length)
        demand(found == data[-length:], f"the last {length} bytes are not what is at the end")
    demand(store.read_range(key, -8, 4) == data[-8:-4], "a range before the end is read wrongly")


@check("a shard that was cut short would be read as if it were whole")
def a_range_beyond_the_end_is_an_error(store: Store, folder: str) -> None:
    """A range that the object does not hold completely is an error, and never fewer bytes."""
    key = join(folder, "bytes")
    store.write(key, b"0123456789")
    for offset, length in ((10, 1), (5, 6), (1000, 10), (-11, 11)):
        try:
            found = store.read_range(key, offset, length)
        except StoreError:
            continue
        raise StoreError(f"{length} bytes from {offset} on of an object of 10 gave {len(found)} bytes, and no error")


@check("Ray Data and everything else that reads by Arrow would get wrong values")
def arrow_reads_ranges(store: Store, folder: str) -> None:
    """Arrow reads ranges of an object from many threads, and one column of a Parquet file, correctly."""
    data = np.random.default_rng(3).bytes(MEGABYTE)
    key = join(folder, "bytes")
    store.write(key, data)
    filesystem, base = store.arrow()

    def right(number: int) -> bool:
        start = (number * 40_009) % (MEGABYTE - 4096)
        with filesystem.open_input_file(f"{base.rstrip('/')}/{key}") as file:
            file.seek(start)
            return bytes(file.read(4096)) == data[start : start + 4096]

    with ThreadPoolExecutor(4) as pool:
        wrong = sum(not same for same in pool.map(right, range(16)))
    demand(wrong == 0, f"{wrong} of 16 ranges were read wrongly")
    sink = pa.BufferOutputStream()
    table = pa.table({"a": np.arange(10_000), "b": np.random.default_rng(4).random(10_000)})
    pq.write_table(table, sink, row_group_size=512)
    store.write(join(folder, "table.parquet"), sink.getvalue().to_pybytes())
    path = f"{base.rstrip('/')}/{join(folder, 'table.parquet')}"
    found = pq.read_table(path, filesystem=filesystem, columns=["a"])
    demand(found.equals(table.select(["a"])), "a column of a Parquet file was read wrongly")
