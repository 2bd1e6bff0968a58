"""Row groups of the shards of a dataset: fetched in one piece, checked, decoded.

In a folder, a shard is mapped into memory and nothing of it is copied. On an object store, the bytes of the row group
are fetched alone and placed at their offset in anonymous memory of the size of the shard, of which the system gives
only the pages that are written; with the footer at hand, that is the file as far as Parquet reads it.
"""

import zlib
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from cluster.dataset.layout import group_ranges
from cluster.dataset.manifest import DatasetManifest, Group, Shard
from cluster.dataset.recent import Recent
from cluster.errors import DamagedDataError, NotFoundError, StoreError
from cluster.store import Store

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData

REPAIR = "remove the damaged file and label or ingest again: equal rows are written where the lost ones were"
_TAIL = 8  # bytes at the end of a Parquet file: the length of the footer, and a magic word
_OPEN = 64  # shards that stay mapped, and footers that stay decoded; one decodes in 0.2 ms


class Span(NamedTuple):
    """Bytes of a shard. crc32: what they sum up to; None where nobody wrote it down (version 1)."""

    offset: int
    bytes: int
    crc32: int | None


class Blocks:
    """Row groups of one dataset by shard and place. Safe between threads."""

    def __init__(self, store: Store, manifest: DatasetManifest) -> None:
        self._store, self._manifest = store, manifest
        self._maps: Recent[int, pa.Buffer] = Recent(_OPEN)
        self._footers: Recent[int, FileMetaData] = Recent(_OPEN)
        self._fetched: dict[int, pa.Buffer] = {}  # footers of remote shards, 10 kB each: never fetched twice
        self._locks = [Lock() for _ in range(16)]  # so that threads that miss one footer fetch it once

    def read(self, number: int, place: int, columns: Sequence[str] | None) -> pa.Table:
        """Physical rows of row group `place` of shard `number`, checked whole even where few columns are wanted.

        Raises `NotFoundError` for a lost shard, `DamagedDataError` for a changed one.
        """
        import pyarrow.parquet as pq  # 0.1 s, which those who only open a dataset need not wait for

        shard = self._manifest.shards[number]
        what = f"row group {place}"
        footer = self._footer(number)
        span = _span(shard.groups[place]) if shard.groups else Span(*group_ranges(footer)[place][1:], None)
        piece = self._verified(number, span, what)
        mapped = self._mapped(number)
        data = mapped if mapped is not None else _placed(piece, span.offset, shard.bytes)
        try:
            file = pq.ParquetFile(pa.BufferReader(data), metadata=footer)
            return file.read_row_group(place, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(shard, f"{what} cannot be decoded: {error}") from error

    def _footer(self, number: int) -> "FileMetaData":
        import pyarrow.parquet as pq

        with self._locks[number % len(self._locks)]:
            footer = self._footers.get(number)
            if footer is None:
                data = self._footer_bytes(number)
                try:
                    footer = pq.read_metadata(pa.BufferReader(data))
                except (OSError, pa.ArrowException) as error:
                    problem = f"footer cannot be decoded: {error}"
                    raise self._damaged(self._manifest.shards[number], problem) from error
                self._footers.put(number, footer)
            return footer

    def _footer_bytes(self, number: int) -> pa.Buffer:
        if number in self._fetched:
            return self._fetched[number]
        shard = self._manifest.shards[number]
        if shard.footer is not None:
            span = _span(shard.footer)
        else:
            size = int.from_bytes(self._piece(number, shard.bytes - _TAIL, _TAIL).to_pybytes()[:4], "little") + _TAIL
            span = Span(max(0, shard.bytes - size), min(size, shard.bytes), None)
        data = self._verified(number, span, "footer")
        if self._mapped(number) is None:
            self._fetched[number] = data
        return data

    def _verified(self, number: int, span: Span, what: str) -> pa.Buffer:
        """The bytes, if they are what was published; they are read twice before it is said that they are not."""
        found = 0
        for _ in range(2):
            piece = self._piece(number, span.offset, span.bytes)
            found = zlib.crc32(piece)
            if span.crc32 in (None, found):
                return piece
            self._maps.drop(number)
        problem = f"{what}: crc32 expected {span.crc32:08x}, found {found:08x}"
        raise self._damaged(self._manifest.shards[number], problem)

    def _piece(self, number: int, offset: int, length: int) -> pa.Buffer:
        mapped = self._mapped(number)
        if mapped is not None:
            return mapped.slice(offset, length)
        shard = self._manifest.shards[number]
        try:
            return pa.py_buffer(self._store.read_range(self._manifest.key_of(shard), offset, length))
        except NotFoundError as error:
            raise self._lost(shard) from error

    def _mapped(self, number: int) -> pa.Buffer | None:
        """The whole shard where the store is a folder."""
        mapped = self._maps.get(number)
        if mapped is not None:
            return mapped
        shard = self._manifest.shards[number]
        path = self._store.local_path(self._manifest.key_of(shard))
        if path is None:
            return None
        try:
            size = path.stat().st_size
            if size != shard.bytes:
                raise self._damaged(shard, f"{size} bytes instead of {shard.bytes}")
            with pa.memory_map(str(path)) as file:
                mapped = file.read_buffer()  # keeps the map, not the file, open
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._lost(shard) from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
        self._maps.put(number, mapped)
        return mapped

    def _lost(self, shard: Shard) -> NotFoundError:
        return NotFoundError(
            f"dataset {self._manifest.ref} has lost a shard: {shard.path} is not in {self._store.uri}", hint=REPAIR
        )

    def _damaged(self, shard: Shard, problem: str) -> DamagedDataError:
        return DamagedDataError(f"dataset {self._manifest.ref}: shard {shard.path}, {problem}", hint=REPAIR)


def _span(group: Group) -> Span:
    return Span(group.offset, group.bytes, group.crc32)


def _placed(piece: pa.Buffer, offset: int, size: int) -> pa.Buffer:
    """Memory of `size` bytes with the piece at its offset; pages that nobody writes are never given by the system.

    numpy's allocation and not mmap: it asks for huge pages, and 4 MiB are in place after 0.4 ms instead of 5.
    """
    memory = np.empty(size, dtype=np.uint8)
    memory[offset : offset + piece.size] = np.frombuffer(piece, dtype=np.uint8)
    return pa.py_buffer(memory)
