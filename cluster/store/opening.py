"""From a URI to a store."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cluster.errors import StoreError
from cluster.store.interface import Store
from cluster.store.keys import folder_prefix
from cluster.store.local import LocalStore

ALLOWED = "a folder, file:///folder or s3://bucket/prefix"


def open_store(uri: str) -> Store:
    """The store at `uri`; nothing is read or written yet (`check_writable` does).

    A folder is made absolute. S3: endpoint from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, credentials
    by the usual chain. Raises `StoreError` for any other URI.
    """
    if "://" not in uri:
        if not uri.strip():
            raise StoreError("the store has no name", allowed=ALLOWED)
        return LocalStore(Path(uri).expanduser().absolute())
    split = urlsplit(uri)
    if split.scheme == "file":
        if split.netloc not in ("", "localhost") or not split.path.startswith("/"):
            raise StoreError(f"{uri!r} names no absolute folder", allowed=ALLOWED)
        return LocalStore(Path(unquote(split.path)))
    if split.scheme == "s3":
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", split.netloc):
            raise StoreError(f"{uri!r} names no bucket", allowed=ALLOWED)
        if split.query or split.fragment:
            raise StoreError(f"{uri!r} has a '?' or '#'", allowed=ALLOWED)
        from cluster.store.s3 import S3Store  # boto3 takes 0.3 s to import: only those who use it wait

        return S3Store(split.netloc, folder_prefix(split.path).rstrip("/"))
    raise StoreError(f"no store is called {split.scheme}://", allowed=ALLOWED)
