"""A store in a folder: nothing to install, safe between processes and threads of one machine.

An object is one file. It is written beside the store's locks and then moved into place by one system
call, so that neither a reader nor a kill ever leaves half of it: os.link creates only where there is
nothing, os.replace overwrites. A compare-and-swap reads, compares and replaces under a lock file. The
etag is the sha256 of the content.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.fs

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store.interface import Store, Unfinished, Uploads
from cluster.store.keys import RESERVED, Names, checked_key, checked_range, folder_prefix

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_LOCKS = 64  # lock files for all keys together, so that they do not grow with the store


class LocalStore(Store):
    """The store in the folder `root`, which is made at the first write."""

    def __init__(self, root: Path) -> None:
        super().__init__(root.as_uri())
        self.root = root

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        path = self._path(key)
        with self._errors("read", key):
            try:
                data = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise NotFoundError(f"{key!r} is not in the store {self.uri}") from None
        return data, _etag(data)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        path = self._path(key)
        with self._errors("read", key):
            try:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    start = checked_range(key, size, offset, length)
                    data = os.pread(file.fileno(), length, start)
                    while len(data) < length:  # one system call reads 2 GiB at most
                        more = os.pread(file.fileno(), length - len(data), start + len(data))
                        if not more:
                            raise StoreError(f"{key!r} in {self.uri} was cut off while it was read")
                        data += more
                    return data
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise NotFoundError(f"{key!r} is not in the store {self.uri}") from None

    def local_path(self, key: str) -> Path:
        return self._path(key)

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        path = self._path(key)

        def fill(part: Path) -> None:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # a manifest that outlives a power cut must not be an empty file

        with self._errors("write", key), self._part(fill) as part:
            if if_match is not None:
                with self._lock(key):
                    found = _etag(path.read_bytes()) if path.is_file() else None
                    if found != if_match or if_absent:
                        raise PreconditionFailedError(f"{key!r} in {self.uri} is not what was read before")
                    _into(path, lambda: os.replace(part, path))
            elif if_absent:
                self._create(part, path, key)
            else:
                with self._lock(key):
                    _into(path, lambda: os.replace(part, path))
        return _etag(data)

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with self._errors("read", key):
            return path.is_file()

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._errors("delete", key), self._lock(key):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            for folder in path.parents:  # a bucket has no empty folders, so neither has this
                if folder == self.root or not _removed(folder):
                    return

    def list(self, prefix: str = "") -> Names:
        start = self.root / folder_prefix(prefix)
        keys = []
        with self._errors("list", prefix):
            for folder, folders, files in os.walk(start, onerror=_unless_missing):
                if Path(folder) == self.root and RESERVED in folders:
                    folders.remove(RESERVED)
                relative = Path(folder).relative_to(self.root)
                keys += [(relative / file).as_posix() for file in files]
        return sorted(keys)

    def children(self, prefix: str = "") -> Names:
        start = self.root / folder_prefix(prefix)
        with self._errors("list", prefix):
            try:
                with os.scandir(start) as entries:
                    # One that is about to get its first object is empty: a bucket has none such.
                    names = [entry.name for entry in entries if entry.is_dir() and _holds_an_object(entry.path)]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name for name in names if start != self.root or name != RESERVED)

    def upload_file(self, path: Path, key: str) -> None:
        target = self._path(key)

        def fill(part: Path) -> None:
            # A copy: a hard link would follow what is later done to the file.
            with path.open("rb") as source, part.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())

        with self._errors("write", key), self._part(fill) as part, self._lock(key):
            _into(target, lambda: os.replace(part, target))

    def download_file(self, key: str, path: Path) -> None:
        source = self._path(key)
        with self._errors("read", key):
            if not source.is_file():
                raise NotFoundError(f"{key!r} is not in the store {self.uri}")
            part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            try:
                shutil.copyfile(source, part)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)

    def begin(self, key: str, data: bytes) -> Unfinished:
        part = self._parts() / uuid.uuid4().hex
        with self._errors("write", key):
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            return Unfinished(key, part.name, _changed(part))

    def unfinished(self) -> Uploads:
        found = []
        with self._errors("list", ""), suppress(FileNotFoundError):
            for part in self._parts().iterdir():
                with suppress(FileNotFoundError):  # finished meanwhile
                    found.append(Unfinished("", part.name, _changed(part)))
        return sorted(found, key=lambda upload: upload.begun)

    def abandon(self, upload: Unfinished) -> None:
        with self._errors("delete", upload.key):
            (self._parts() / Path(upload.mark).name).unlink(missing_ok=True)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        return pyarrow.fs.LocalFileSystem(), str(self.root)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _create(self, part: Path, path: Path, key: str) -> None:
        """Move `part` to `path` only where there is nothing."""
        taken = PreconditionFailedError(f"{key!r} exists already in {self.uri}")
        try:
            _into(path, lambda: os.link(part, path))
        except FileExistsError:
            raise taken from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            with self._lock(key):  # a filesystem without hard links: every writer that creates comes by here
                if path.exists():
                    raise taken from None
                _into(path, lambda: os.replace(part, path))

    def _parts(self) -> Path:
        return self.root / RESERVED / "parts"

    @contextmanager
    def _part(self, fill: Callable[[Path], None]) -> Iterator[Path]:
        """A file that `fill` has written on the store's own filesystem; gone at the end unless moved."""
        folder = self._parts()
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / uuid.uuid4().hex
        try:
            fill(part)
            yield part
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Hold the lock of `key` against all threads and processes; the kernel frees it when we die."""
        folder = self.root / RESERVED / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        number = int(_etag(key.encode())[:8], 16) % _LOCKS
        # flock, not lockf: it belongs to the open file, so that threads of one process exclude each other.
        with (folder / f"{number:02d}").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        """Turn what the operating system says into a `StoreError` that names the folder and what to do."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            hint = {
                errno.EACCES: "the folder belongs to somebody else; choose another with --store",
                errno.EPERM: "the folder belongs to somebody else; choose another with --store",
                errno.EROFS: "the folder is on a read-only disk; choose another with --store",
                errno.ENOSPC: "free some space, or choose another folder with --store",
                errno.EDQUOT: "the quota is used up; free some space, or choose another folder with --store",
                errno.ENOTDIR: "a file is in the way of the folder",
                errno.EEXIST: "a file is in the way of the folder",
                errno.EISDIR: "a folder is in the way of the file",
            }.get(error.errno or 0)
            message = f"cannot {action} {key!r} in the store {self.root}: {reason}"
            raise StoreError(message, hint=hint) from error


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _into(path: Path, move: Callable[[], None]) -> None:
    """Do `move` into a folder that another process may be removing because it was empty."""
    for _ in range(16):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return move()
        except FileNotFoundError:
            continue
    return move()


def _holds_an_object(folder: str) -> bool:
    return any(files for _, _, files in os.walk(folder, onerror=_unless_missing))


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
