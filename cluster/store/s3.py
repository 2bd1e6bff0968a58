"""A store in an S3 bucket; the only file that knows boto3.

Conditional writes are S3's own (If-None-Match, If-Match). Each conditional write carries a nonce in the
object's metadata: when an answer is lost after the write was applied, boto3 repeats the request and gets
412 for its own success, so on 412 the object is looked at, and a nonce of ours means that we won. The one
case this cannot see is another writer who overwrote our object within those milliseconds; then a write
that won is reported as lost, never the other way round.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
import pyarrow.fs
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError, UserError
from cluster.store.interface import Store
from cluster.store.keys import Names, checked_key, checked_range, folder_prefix, join

NONCE = "equi-write"  # metadata of an object: which write made it
_MISSING = ("NoSuchKey", "404", "NotFound")
_LOST = ("PreconditionFailed", "412")
_REFUSED = ("AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")
_BROKEN_READ = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_READS = 4  # attempts at a body that breaks off; boto3 itself repeats requests, but not those
# 8 MiB parts, 4 threads: boto3's own 10 threads open more connections than a small machine serves.
_TRANSFER = TransferConfig(max_concurrency=4)
_creation = Lock()  # making a boto3 client is not safe between threads; using one is

Result = TypeVar("Result")


class S3Store(Store):
    """The store below `prefix` of a bucket that exists; endpoint and credentials from the environment."""

    def __init__(self, bucket: str, prefix: str) -> None:
        super().__init__(f"s3://{join(bucket, prefix)}")
        self.bucket, self.prefix = bucket, prefix

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        path = self._path(key)
        with self._errors("read", key):
            for attempt in range(_READS):
                answer = self._client.get_object(Bucket=self.bucket, Key=path)
                try:
                    return answer["Body"].read(), answer["ETag"]
                except _BROKEN_READ:
                    if attempt == _READS - 1:
                        raise
                    time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        path = self._path(key)
        if length <= 0 or offset < 0 < offset + length:  # what S3 has no words for: its ranges hold a byte at least
            head = self._described(path, key)
            checked_range(key, head["ContentLength"], offset, length)
            return b""
        wanted = f"bytes={offset}-{offset + length - 1}" if offset >= 0 else f"bytes={offset}"
        expected = length if offset >= 0 else -offset
        with self._errors("read", key):
            for attempt in range(_READS):
                try:
                    answer = self._client.get_object(Bucket=self.bucket, Key=path, Range=wanted)
                    if "ContentRange" not in answer:
                        raise StoreError(f"cannot read {key!r} in {self.uri}: the server ignores ranges")
                    size = int(answer["ContentRange"].rpartition("/")[2])
                    checked_range(key, size, offset, length)
                    data: bytes = answer["Body"].read()
                    if len(data) != expected:
                        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=expected)
                    return data[:length]
                except ClientError as error:
                    if _code(error) not in ("InvalidRange", "416"):
                        raise
                    checked_range(key, self._described(path, key)["ContentLength"], offset, length)
                    raise
                except _BROKEN_READ:
                    if attempt == _READS - 1:
                        raise
                    time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def _described(self, path: str, key: str) -> dict[str, Any]:
        with self._errors("read", key):
            head = self._head(path)
        if head is None:
            raise NotFoundError(f"{key!r} is not in the store {self.uri}")
        return head

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        path = self._path(key)
        request: dict[str, Any] = {"Bucket": self.bucket, "Key": path, "Body": data}
        if not if_absent and if_match is None:
            with self._errors("write", key):
                return str(self._client.put_object(**request)["ETag"])
        if if_absent and if_match is not None:
            raise PreconditionFailedError(f"{key!r} cannot be absent and be what was read before")
        nonce = uuid.uuid4().hex
        request |= {"Metadata": {NONCE: nonce}}
        request |= {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_match}
        with self._errors("write", key):
            try:
                return str(self._repeat_conflicts(lambda: self._client.put_object(**request))["ETag"])
            except (ClientError, HTTPClientError) as error:
                # The last answer may be about a repetition of a write that was applied before: look.
                if (etag := self._own(path, nonce)) is not None:
                    return etag
                if _code(error) not in (*_LOST, *_MISSING):
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
            self._client.delete_object(Bucket=self.bucket, Key=path)

    def list(self, prefix: str = "") -> Names:
        start = join(self.prefix, folder_prefix(prefix))
        skip = len(self.prefix) + 1 if self.prefix else 0
        keys = []
        with self._errors("list", prefix):
            for page in self._pages(Prefix=start + "/" if start else ""):
                keys += [entry["Key"][skip:] for entry in page.get("Contents", ())]
        return sorted(key for key in keys if not key.endswith("/"))  # consoles mark folders by such objects

    def children(self, prefix: str = "") -> Names:
        start = join(self.prefix, folder_prefix(prefix))
        names = []
        with self._errors("list", prefix):
            for page in self._pages(Prefix=start + "/" if start else "", Delimiter="/"):
                found = [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
                names += [name.rstrip("/").rpartition("/")[2] for name in found]
        return sorted(names)

    def upload_file(self, path: Path, key: str) -> None:
        target = self._path(key)
        with self._errors("write", key):
            self._client.upload_file(str(path), self.bucket, target, Config=_TRANSFER)

    def download_file(self, key: str, path: Path) -> None:
        source = self._path(key)
        with self._errors("read", key):
            self._client.download_file(self.bucket, source, str(path), Config=_TRANSFER)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        # Arrow looks for credentials in fewer places than boto3 (no SSO): boto3 finds them for both.
        with self._errors("read", ""):
            found = self._session.get_credentials()
            if found is None:
                raise NoCredentialsError
            credentials = found.get_frozen_credentials()
            endpoint = urlsplit(self._client.meta.endpoint_url)
            region = self._session.region_name
            if region is None:
                region = "us-east-1" if self._custom else pyarrow.fs.resolve_s3_region(self.bucket)
            filesystem = pyarrow.fs.S3FileSystem(
                access_key=credentials.access_key,
                secret_key=credentials.secret_key,
                session_token=credentials.token,
                region=region,
                endpoint_override=endpoint.netloc if self._custom else None,
                scheme=endpoint.scheme,
                connect_timeout=5,
                retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=4),
            )
        return filesystem, join(self.bucket, self.prefix)

    @cached_property
    def _session(self) -> Any:
        with self._errors("read", ""):
            return boto3.session.Session()

    @cached_property
    def _custom(self) -> bool:
        """Whether this is a server of one's own rather than AWS."""
        return not (urlsplit(self._client.meta.endpoint_url).hostname or "").endswith(
            (".amazonaws.com", ".amazonaws.com.cn")
        )

    @cached_property
    def _client(self) -> Any:
        own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        config = Config(
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=16,
            # Servers other than AWS rarely know the newer checksums; manifests hold a sha256 of each file.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # A server of one's own seldom has a host name for each bucket.
            s3={"addressing_style": "path"} if own else None,
        )
        with _creation, self._errors("read", ""):
            # us-east-1 only names the signature where a server of one's own has no region.
            region = self._session.region_name or "us-east-1"
            return self._session.client("s3", config=config, region_name=region)

    def _path(self, key: str) -> str:
        return join(self.prefix, checked_key(key))

    def _pages(self, **request: str) -> Iterator[dict[str, Any]]:
        pages: Iterator[dict[str, Any]] = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, **request
        )
        return pages

    def _head(self, path: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._client.head_object(Bucket=self.bucket, Key=path)
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        return answer

    def _own(self, path: str, nonce: str) -> str | None:
        """The etag of the object if it is the one that the write with `nonce` made."""
        head = self._head(path)
        return head["ETag"] if head and head["Metadata"].get(NONCE) == nonce else None

    def _repeat_conflicts(self, call: Callable[[], Result]) -> Result:
        """S3 answers 409 where conditional writes overlap so closely that it decides neither: ask again."""
        for attempt in range(6):
            try:
                return call()
            except ClientError as error:
                if _code(error) not in ("ConditionalRequestConflict", "409"):
                    raise
                time.sleep(0.05 * 2**attempt)
        return call()

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        """Turn what botocore says into an error that names the bucket and what to do."""
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error, OSError) as error:
            raise self._explained(error, action, key) from error

    def _explained(self, error: BaseException, action: str, key: str) -> UserError:
        """The error in the user's words. The texts used here never hold a credential."""
        what = f"cannot {action} {key!r} in {self.uri}" if key else f"cannot {action} {self.uri}"
        code = _code(error)
        cause = error.__cause__ or error.__context__
        if isinstance(error, Boto3Error) and cause is not None:  # a transfer wraps what went wrong
            return self._explained(cause, action, key)
        if code == "NoSuchBucket":
            hint = "make it first, or name another"
            return StoreError(f"{what}: there is no bucket {self.bucket!r}", hint=hint)
        if code in _MISSING:
            return NotFoundError(f"{key!r} is not in the store {self.uri}")
        if code in _REFUSED:
            hint = "check the AWS credentials and what they are allowed to do"
            return StoreError(f"{what}: the server refuses ({code})", hint=hint)
        if isinstance(error, NoCredentialsError):
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give this machine a role"
            return StoreError(f"{what}: there are no AWS credentials", hint=hint)
        if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
            hint = "is the server running, and AWS_ENDPOINT_URL right?"
            return StoreError(f"{what}: no answer from {self._endpoint}", hint=hint)
        return StoreError(f"{what}: {error}")

    @property
    def _endpoint(self) -> str:
        split = urlsplit(self._client.meta.endpoint_url)
        return f"{split.scheme}://{split.hostname}" + (f":{split.port}" if split.port else "")  # no user, no password


def _code(error: BaseException) -> str:
    """S3's name for what went wrong; empty where S3 did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
