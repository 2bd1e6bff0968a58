"""A store in an S3 bucket; this file, s3_client.py and s3_errors.py are the only ones that know boto3.

Conditional writes are S3's own (If-None-Match, If-Match). Each conditional write carries a nonce in the
object's metadata: when an answer is lost after the write was applied, boto3 repeats the request and gets
412 for its own success, so on 412 the object is looked at, and a nonce of ours means that we won. The one
case this cannot see is another writer who overwrote our object within those milliseconds; then a write
that won is reported as lost, never the other way round.

Every request that may pass by itself is repeated: five times by boto3, which does not repeat bodies that
break off, and around that by `persist`, for both.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow.fs
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, IncompleteReadError

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store.interface import Store, Unfinished, Uploads
from cluster.store.keys import Names, checked_key, checked_range, folder_prefix, join
from cluster.store.retrying import Patience, persist
from cluster.store.s3_client import S3Connection, S3Times
from cluster.store.s3_errors import (
    CONFLICT,
    FAILURES,
    LOST,
    MISSING,
    NO_SUCH_RANGE,
    code_of,
    explained,
    passes_by_itself,
)

NONCE = "equi-write"  # metadata of an object: which write made it
_BY_TIME = 1_000_000  # attempts: it is the seconds that end patience
_CONFLICTS = Patience(attempts=8, first=0.05)
_PIECE = 8 << 20  # bytes of a part of an upload or a download
_THREADS = 4  # boto3's own 10 open more connections than a small machine serves
_BATCH = 1000  # keys that one request may delete
_TRANSFER = TransferConfig(multipart_chunksize=_PIECE, multipart_threshold=_PIECE, max_concurrency=_THREADS)

Result = TypeVar("Result")


class _Piece(NamedTuple):
    data: bytes
    size: int  # of the whole object
    etag: str


class S3Store(Store):
    """The store below `prefix` of a bucket that exists; endpoint and credentials from the environment."""

    def __init__(self, bucket: str, prefix: str, times: S3Times | None = None, *, wrong_secret: bool = False) -> None:
        super().__init__(f"s3://{join(bucket, prefix)}")
        self.bucket, self.prefix = bucket, prefix
        self._times, self._wrong_secret = times, wrong_secret

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.bucket, self.prefix, self._times)

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        path = self._path(key)

        def attempt() -> tuple[bytes, str]:
            answer = self._client.get_object(Bucket=self.bucket, Key=path)
            return answer["Body"].read(), answer["ETag"]

        with self._errors("read", key):
            return self._persist(attempt)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        # boto3, not pyarrow.fs (read_at of a file opened with its size known). Ranges of 1, 4 and 8 MiB, 1 to 8
        # threads, 2 cores: on moto pyarrow is 0.9-1.1x as fast (the server is what is slow), with moto's copying of
        # whole objects taken out 1.1-1.6x, 0.9-2.1x and 0.5-0.9x; on a bare server in memory 1.9-3.4x at 1 MiB (800 to
        # 1,300 MB/s), 0.7-0.9x at 4 and 0.6-0.8x at 8 MiB (boto3: 420, 1,000 and 1,300 MB/s). Row groups have 4 MiB.
        path = self._path(key)
        if length <= 0 or offset < 0 < offset + length:  # what S3 has no words for: its ranges hold a byte at least
            checked_range(key, self._size(path, key), offset, length)
            return b""
        with self._errors("read", key):
            try:
                piece = self._persist(lambda: self._piece(path, offset, length))
            except ClientError as error:
                if code_of(error) not in NO_SUCH_RANGE:
                    raise
                checked_range(key, self._size(path, key), offset, length)
                raise
        checked_range(key, piece.size, offset, length)
        return piece.data[:length]

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        path = self._path(key)
        request: dict[str, Any] = {"Bucket": self.bucket, "Key": path, "Body": data}
        if if_absent and if_match is not None:
            raise PreconditionFailedError(f"{key!r} cannot be absent and be what was read before")
        if not if_absent and if_match is None:
            with self._errors("write", key):
                return str(self._persist(lambda: self._client.put_object(**request))["ETag"])
        nonce = uuid.uuid4().hex
        request |= {"Metadata": {NONCE: nonce}}
        request |= {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_match}
        with self._errors("write", key):
            try:
                # Repeated with the same nonce: a repetition that finds our own object is refused, and we see why.
                return str(self._persist(lambda: self._unless_conflict(request))["ETag"])
            except FAILURES as error:
                # The last answer may be about a repetition of a write that was applied before: look.
                if (etag := self._own(path, nonce)) is not None:
                    return etag
                if code_of(error) not in (*LOST, *MISSING):
                    raise
        reason = "exists already" if if_absent else "is not what was read before"
        raise PreconditionFailedError(f"{key!r} in {self.uri} {reason}")

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with self._errors("read", key):
            return self._head(path) is not None

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._errors("delete", key):
            self._persist(lambda: self._client.delete_object(Bucket=self.bucket, Key=path))

    def delete_folder(self, prefix: str) -> None:
        if not folder_prefix(prefix):
            raise StoreError("the whole store would be deleted", hint="name a folder of it")
        keys = self.list(prefix)
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            if not self._deleted(batch):
                for key in batch:  # one at a time, where each has its own error
                    self.delete(key)

    def list(self, prefix: str = "") -> Names:
        start = join(self.prefix, folder_prefix(prefix))
        skip = len(self.prefix) + 1 if self.prefix else 0
        with self._errors("list", prefix):
            pages = self._pages("list_objects_v2", Prefix=start + "/" if start else "")
            keys = [entry["Key"][skip:] for page in pages for entry in page.get("Contents", ())]
        return sorted(key for key in keys if not key.endswith("/"))  # consoles mark folders by such objects

    def children(self, prefix: str = "") -> Names:
        start = join(self.prefix, folder_prefix(prefix))
        with self._errors("list", prefix):
            pages = self._pages("list_objects_v2", Prefix=start + "/" if start else "", Delimiter="/")
            found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def upload_file(self, path: Path, key: str) -> None:
        target = self._path(key)
        with self._errors("write", key):
            # boto3 aborts the parts of an upload that fails, so that a repetition begins with nothing.
            self._persist(lambda: self._client.upload_file(str(path), self.bucket, target, Config=_TRANSFER))

    def download_file(self, key: str, path: Path) -> None:
        # Not boto3's download_file, which takes an answer that is short and says so for the whole object.
        source = self._path(key)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with self._errors("read", key):
            try:
                # Replaced by somebody while it was copied: again, the new one.
                persist(lambda: self._download(source, part), lambda error: code_of(error) in LOST, _CONFLICTS)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)

    def begin(self, key: str, data: bytes) -> Unfinished:
        path = self._path(key)
        with self._errors("write", key):
            answer = self._client.create_multipart_upload(Bucket=self.bucket, Key=path)
            mark = answer["UploadId"]
            self._client.upload_part(Bucket=self.bucket, Key=path, UploadId=mark, PartNumber=1, Body=data)
            return Unfinished(key, mark, datetime.now(UTC))

    def unfinished(self) -> Uploads:
        skip = len(self.prefix) + 1 if self.prefix else 0
        with self._errors("list", ""):
            pages = self._pages("list_multipart_uploads", Prefix=self.prefix + "/" if self.prefix else "")
            found = [entry for page in pages for entry in page.get("Uploads", ())]
        return [Unfinished(entry["Key"][skip:], entry["UploadId"], entry["Initiated"]) for entry in found]

    def abandon(self, upload: Unfinished) -> None:
        path = self._path(upload.key)
        with self._errors("delete", upload.key):
            try:
                self._persist(
                    lambda: self._client.abort_multipart_upload(Bucket=self.bucket, Key=path, UploadId=upload.mark)
                )
            except ClientError as error:
                if code_of(error) not in ("NoSuchUpload", *MISSING):
                    raise

    def stranger(self) -> Store:
        return S3Store(self.bucket, self.prefix, self._times, wrong_secret=True)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        with self._errors("read", ""):
            return self._connection.filesystem(self.bucket), join(self.bucket, self.prefix)

    @cached_property
    def _connection(self) -> S3Connection:
        return S3Connection(self._times or S3Times(), wrong_secret=self._wrong_secret)

    @property
    def _client(self) -> Any:
        return self._connection.client

    def _path(self, key: str) -> str:
        return join(self.prefix, checked_key(key))

    def _persist(self, call: Callable[[], Result]) -> Result:
        patience = Patience(attempts=_BY_TIME, seconds=self._connection.times.patience)
        return persist(call, passes_by_itself, patience)

    def _deleted(self, keys: Names) -> bool:
        """Whether one request removed all of them; some servers know no such request."""
        named = {"Objects": [{"Key": self._path(key)} for key in keys]}

        def attempt() -> dict[str, Any]:
            return dict(self._client.delete_objects(Bucket=self.bucket, Delete=named))

        try:
            return len(self._persist(attempt).get("Deleted", ())) == len(keys)
        except FAILURES:
            return False

    def _pages(self, request: str, **settings: str) -> tuple[dict[str, Any], ...]:
        """All pages of a listing, from the start again where one of them fails."""
        paginator = self._client.get_paginator(request)

        def attempt() -> tuple[dict[str, Any], ...]:
            pages = tuple(paginator.paginate(Bucket=self.bucket, **settings))
            # An answer whose body was lost altogether is no error to boto3, and would be a store without objects.
            if not all("IsTruncated" in page for page in pages):
                raise IncompleteReadError(actual_bytes=0, expected_bytes=1)
            return pages

        return self._persist(attempt)

    def _piece(self, path: str, offset: int, length: int, etag: str | None = None) -> _Piece:
        """One attempt at a range, which is shorter at the end of the object; etag: of this version only."""
        wanted = f"bytes={offset}-{offset + length - 1}" if offset >= 0 else f"bytes={offset}"
        request = {"Bucket": self.bucket, "Key": path, "Range": wanted} | ({"IfMatch": etag} if etag else {})
        answer = self._client.get_object(**request)
        if "ContentRange" not in answer:
            raise StoreError(f"cannot read a range of {path!r} in {self.uri}: the server answers with the whole object")
        first, last, size = map(int, answer["ContentRange"].removeprefix("bytes ").replace("/", "-").split("-"))
        start = offset if offset >= 0 else max(0, size + offset)
        end = min(size, start + length if offset >= 0 else size)
        data = answer["Body"].read()
        # The body fits what is announced, or boto3 had raised; what is announced must be what was asked for.
        if (first, last + 1, len(data)) != (start, end, end - start):
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=end - start)
        return _Piece(data, size, answer["ETag"])

    def _download(self, path: str, target: Path) -> None:
        """One attempt at a whole object: pieces of one version of it, each tried again by itself."""
        try:
            head = self._persist(lambda: self._piece(path, 0, _PIECE))
        except ClientError as error:
            if code_of(error) not in NO_SUCH_RANGE:
                raise
            head = _Piece(b"", 0, "")  # an empty object has no range
        with target.open("wb") as file, ThreadPoolExecutor(_THREADS) as pool:
            file.truncate(head.size)

            def fill(start: int) -> None:
                piece = head if start == 0 else self._persist(lambda: self._piece(path, start, _PIECE, head.etag))
                os.pwrite(file.fileno(), piece.data, start)

            for done in [pool.submit(fill, start) for start in range(0, head.size, _PIECE)]:
                done.result()

    def _size(self, path: str, key: str) -> int:
        with self._errors("read", key):
            head = self._head(path)
        if head is None:
            raise NotFoundError(f"{key!r} is not in the store {self.uri}")
        return int(head["ContentLength"])

    def _head(self, path: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._persist(lambda: self._client.head_object(Bucket=self.bucket, Key=path))
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise
        return answer

    def _own(self, path: str, nonce: str) -> str | None:
        """The etag of the object if it is the one that the write with `nonce` made."""
        head = self._head(path)
        return head["ETag"] if head and head["Metadata"].get(NONCE) == nonce else None

    def _unless_conflict(self, request: dict[str, Any]) -> dict[str, Any]:
        """S3 answers 409 where conditional writes overlap so closely that it decides neither: ask again."""
        answer: dict[str, Any] = persist(
            lambda: self._client.put_object(**request), lambda error: code_of(error) in CONFLICT, _CONFLICTS
        )
        return answer

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        """Turn what botocore says into an error that names the bucket and what to do."""
        try:
            yield
        except FAILURES as error:
            # Without a client there is no endpoint: then credentials or settings were wrong, and no server.
            endpoint = self._connection.endpoint if "client" in self._connection.__dict__ else "the server"
            raise explained(error, action, key, self.uri, endpoint) from error
