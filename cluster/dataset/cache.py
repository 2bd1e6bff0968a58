"""A cache of decoded blocks in a folder of this machine: bounded, checked, shared by the processes of a node.

A block is a table under a key that names its content, so that an entry is never stale. Its file is an Arrow IPC file
and a trailer (magic, length, crc32), which is mapped, checked and read without a copy. Which block was used last is
the file's time of change. Everything that a full or broken disk can do costs speed, never data and never the run.
"""

import errno
import fcntl
import hashlib
import os
import struct
import time
import uuid
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pyarrow as pa

from cluster.errors import UserError

_TRAILER = struct.Struct("<8sQI")  # magic, bytes before the trailer, their crc32
_MAGIC = b"EQUIBLK1"
_ROOM = 0.9  # of the bound is kept by an eviction, so that not every block pays for a listing of the folder
_SLOTS = 4096  # lock files; two keys that share one (16 threads: 3%) only wait for each other
_WAIT = 60.0  # seconds for another process's block; then it is fetched twice rather than never


class BlockCache:
    """Tables by key below `folder`, `limit` bytes of them at most. Safe between threads and processes; pickles.

    Raises `UserError` where the bound is not positive. After that nothing raises: what the disk refuses is warned of
    once and the cache takes no more blocks.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        if limit <= 0:
            raise UserError(f"a cache of {limit} bytes holds nothing", allowed="a positive number of bytes")
        self.folder, self.limit = Path(folder), limit
        self._off = False  # after an error of the disk

    def get(self, key: str) -> pa.Table | None:
        """The table, mapped from the disk; None where there is none or it is damaged, and then it is removed."""
        path = self._path(key)
        try:
            with pa.memory_map(str(path)) as file:
                buffer = file.read_buffer()
            table = _decoded(buffer)
            if table is None:
                path.unlink()  # its bytes stay in the ledger until the next eviction counts again
            else:
                os.utime(path)
        except FileNotFoundError:
            return None  # or evicted this moment, which is as good
        except OSError as error:
            self._give_up(error)
            return None
        return table

    def put(self, key: str, table: pa.Table) -> None:
        """Keep the table, evicting what was not used for longest; nothing happens where the key is there already."""
        path = self._path(key)
        if self._off or path.exists():
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        body = sink.getvalue()
        size = body.size + _TRAILER.size
        if size > self.limit:
            return
        try:
            with self._reserved(path, size) as file:
                file.write(body)
                file.write(_trailer(body))
        except OSError as error:
            self._give_up(error)

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Hold the key against the other threads and processes, so that of many that miss a block one fetches it.

        A holder that dies frees it; one that hangs is waited for no longer than a minute.
        """
        try:
            file = None if self._off else self._held(self._name(key))
        except OSError as error:
            self._give_up(error)
            file = None
        try:
            yield
        finally:
            if file is not None:
                file.close()

    def used(self) -> int:
        """Bytes of all blocks in the folder, counted by listing it."""
        return sum(size for _, size, _ in self._entries())

    def _name(self, key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / "blocks" / f"{self._name(key)}.arrow"

    def _held(self, name: str) -> IO[bytes] | None:
        """The open lock file, or None where the wait was in vain."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        file = (locks / f"{int(name[:8], 16) % _SLOTS:03x}").open("ab")
        deadline = time.monotonic() + _WAIT
        pause = 0.001
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.close()
                    return None
            except OSError:
                file.close()
                raise
            else:
                return file
            time.sleep(pause)
            pause = min(2 * pause, 0.005)

    @contextmanager
    def _reserved(self, path: Path, size: int) -> Iterator[IO[bytes]]:
        """An empty file of `size` bytes that counts against the bound from now on, moved to `path` at the end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{uuid.uuid4().hex}.part")
        with self._ledger() as ledger:
            used = _number(ledger)
            if used is None or used + size > self.limit:
                used = self._evict(size)
            ledger.seek(0)
            ledger.truncate()
            ledger.write(str(used + size).encode())
            ledger.flush()
            file = part.open("xb")
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # whoever finds the file and gets this lock knows that we are dead
                os.ftruncate(file.fileno(), size)
            except OSError:
                file.close()
                part.unlink(missing_ok=True)
                raise
        try:
            with file:
                yield file
                file.flush()
                with self._ledger():  # a listing that another process makes meanwhile could see neither name
                    os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @contextmanager
    def _ledger(self) -> Iterator[IO[bytes]]:
        """The file with the number of bytes in use, never too small a number, held against all others."""
        with (self.folder / "used").open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _evict(self, size: int) -> int:
        """Remove the blocks that were not used for longest, until `size` more fit well; returns the bytes that stay."""
        entries = sorted(self._entries())
        used = sum(length for _, length, _ in entries)
        for _, length, path in entries:
            if path.suffix == ".part":
                if _abandoned(path):
                    path.unlink(missing_ok=True)
                    used -= length
            elif used + size > max(_ROOM * self.limit, size):
                path.unlink(missing_ok=True)
                used -= length
        return used

    def _entries(self) -> list[tuple[int, int, Path]]:
        """Time of last use in nanoseconds, bytes and path of each file, those being written included."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self.folder / "blocks") as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # moved or evicted meanwhile
                    state = entry.stat()
                    found.append((state.st_mtime_ns, state.st_size, Path(entry.path)))
        return found

    def _give_up(self, error: OSError) -> None:
        if self._off:
            return
        self._off = True
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
        warnings.warn(
            f"the cache of blocks in {self.folder} is not used any more: {reason}. "
            "Nothing is lost; blocks are read from the store again.",
            RuntimeWarning,
            stacklevel=3,
        )


def _trailer(body: pa.Buffer) -> bytes:
    return _TRAILER.pack(_MAGIC, body.size, zlib.crc32(body))


def _decoded(buffer: pa.Buffer) -> pa.Table | None:
    """The table before the trailer, if the trailer is about it."""
    length = buffer.size - _TRAILER.size
    if length < 0:
        return None
    body = buffer.slice(0, length)
    if buffer.slice(length).to_pybytes() != _trailer(body):
        return None
    return pa.ipc.open_file(body).read_all()


def _number(ledger: IO[bytes]) -> int | None:
    ledger.seek(0)
    text = ledger.read()
    return int(text) if text.isdigit() else None


def _abandoned(path: Path) -> bool:
    """Whether nobody writes this file any more."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
