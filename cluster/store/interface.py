"""What a store can do. Many may write at a time: what must not be lost is written conditionally."""

import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.fs

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store.keys import Names, checked_key, folder_prefix, join


@dataclass(frozen=True)
class Unfinished:
    """A write that was begun and not finished. A folder does not know the key that it was meant for: empty."""

    key: str
    mark: str  # the store's own name of it
    begun: datetime  # with its time zone


Uploads = list[Unfinished]  # a name that still means it inside a class with a method called `list`


class Store(ABC):
    """Objects (bytes) under keys such as 'runs/r1/record.json'.

    Every method raises `StoreError` where the store cannot be reached, read or written. A prefix is
    always a folder: 'runs/1' never means 'runs/10' as well. An object appears whole or not at all,
    whenever its writer is killed. Safe to share between threads; pickles by its URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __reduce__(self) -> tuple[Any, ...]:
        from cluster.store.opening import open_store  # opening imports both kinds of store, and so this file

        return open_store, (self.uri,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    # One object

    def read(self, key: str) -> bytes:
        """The object. Raises `NotFoundError`."""
        return self.read_tagged(key)[0]

    @abstractmethod
    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """The object and its etag, which `write(..., if_match=etag)` takes. Raises `NotFoundError`."""

    @abstractmethod
    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """`length` bytes of the object from `offset` on; a negative offset counts from its end.

        Exactly so many, or an error: `NotFoundError`, or `OutOfRangeError` where the object has fewer.
        """

    def local_path(self, key: str) -> Path | None:
        """The file that holds the object, to be mapped and never written; None where the store is no folder.

        The file may be missing, as the object may.
        """
        checked_key(key)
        return None

    @abstractmethod
    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write one object and return its etag.

        if_absent: only where there is none. if_match: only in place of the object that has this etag.
        Raises `PreconditionFailedError` where the condition does not hold; then nothing was written.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is an object of exactly this key."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; nothing happens where there is none."""

    # Many objects

    @abstractmethod
    def list(self, prefix: str = "") -> Names:
        """Every key below the folder `prefix`, at any depth, sorted. Empty where there is none."""

    @abstractmethod
    def children(self, prefix: str = "") -> Names:
        """Names of the folders directly below `prefix`, sorted; costs one listing however deep they are."""

    # Files and folders of this machine

    @abstractmethod
    def upload_file(self, path: Path, key: str) -> None:
        """Copy a file of this machine to the store, in constant memory."""

    @abstractmethod
    def download_file(self, key: str, path: Path) -> None:
        """Copy an object to this machine, in constant memory. Raises `NotFoundError`."""

    def upload(self, folder: Path, prefix: str, *, last: str | None = None) -> Names:
        """Copy every file below `folder` to `prefix`; returns the keys in the order they were written.

        last: the file (relative to `folder`) written after all others, which so proves they are there.
        """
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        if not names:
            raise StoreError(f"nothing to upload: {folder} holds no file")
        if last is not None:
            if last not in names:
                raise StoreError(f"nothing to upload: {folder} holds no {last!r}")
            names.remove(last)
            names.append(last)
        keys = [join(prefix, name) for name in names]
        for name, key in zip(names, keys, strict=True):
            self.upload_file(folder / name, key)
        return keys

    def download(self, prefix: str, folder: Path) -> tuple[Path, ...]:
        """Copy every object below `prefix` into `folder`; returns the files. Raises `NotFoundError`."""
        start = folder_prefix(prefix)
        keys = self.list(prefix)
        if not keys:
            raise NotFoundError(f"nothing is stored under {prefix!r} in {self.uri}")
        files = []
        for key in keys:
            # Others may have written to the bucket: a key such as 'a/../../b' must not leave `folder`.
            path = folder / checked_key(key).removeprefix(start)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.download_file(key, path)
            files.append(path)
        return tuple(files)

    def delete_folder(self, prefix: str) -> None:
        """Remove every object below `prefix`, which must not be empty."""
        if not folder_prefix(prefix):
            raise StoreError("the whole store would be deleted", hint="name a folder of it")
        for key in self.list(prefix):
            self.delete(key)

    @abstractmethod
    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """A filesystem for bulk reads, and the path of the store's root on it.

        Ask anew for each long operation: the credentials in it may expire.
        """

    # Writes that were begun and not finished

    @abstractmethod
    def begin(self, key: str, data: bytes) -> Unfinished:
        """Write the beginning of an object and stop, as a writer does that is killed: `equi store doctor` tries it."""

    @abstractmethod
    def unfinished(self) -> Uploads:
        """Every write below this store that was begun and not finished, those at work just now included."""

    @abstractmethod
    def abandon(self, upload: Unfinished) -> None:
        """Remove what was written of it; nothing happens where it is gone or finished."""

    # The store itself

    def stranger(self) -> "Store | None":
        """This store as somebody sees it whose secret is wrong; None where there are no secrets."""
        return None

    def check_reachable(self) -> None:
        """Raise `StoreError` unless an object can be written here."""
        key = f"probes/{uuid.uuid4().hex}"
        self._probe(key, if_absent=False)
        self.delete(key)

    def _probe(self, key: str, *, if_absent: bool) -> None:
        try:
            self.write(key, b"first", if_absent=if_absent)
        except StoreError as error:
            message = error.message.replace(f"{key!r} in", "to")  # the probe is no name that a user knows
            raise StoreError(message, allowed=error.allowed, hint=error.hint) from error

    def check_writable(self) -> None:
        """Raise `StoreError` unless objects can be written here and conditional writes are kept.

        Some S3 servers accept If-None-Match and ignore it; versions and aliases would then be lost silently.
        """
        key = f"probes/{uuid.uuid4().hex}"
        self._probe(key, if_absent=True)
        try:
            self.write(key, b"second", if_absent=True)
        except PreconditionFailedError:
            return
        finally:
            self.delete(key)
        raise StoreError(
            f"{self.uri} ignores conditional writes (If-None-Match)",
            allowed="AWS S3, or a server that keeps them; or a folder",
        )
