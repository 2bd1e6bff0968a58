"""Keys: slash-separated names below the root of a store, the same on a folder and in a bucket."""

import re

from cluster.errors import OutOfRangeError, StoreError

# What a folder can hold and a log line can show. Reserved: the folder where a local store keeps its locks.
_PART = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}")
RESERVED = ".store"

# A name for list[str] that still means it inside a class with a method called `list`.
Names = list[str]


def checked_key(key: str) -> str:
    """The key, unchanged. Raises `StoreError` where it could escape the root or no folder can hold it."""
    parts = key.split("/")
    for part in parts:
        if not _PART.fullmatch(part) or part in (".", ".."):
            raise StoreError(
                f"{key!r} is not a key of the store",
                allowed="names joined by '/', none of them empty, '.' or '..', no control characters",
            )
    if parts[0] == RESERVED:
        raise StoreError(f"{key!r} is not a key of the store", hint=f"{RESERVED!r} is the store's own")
    return key


def folder_prefix(prefix: str) -> str:
    """`prefix` as a folder: empty, or ending in one slash, so that 'runs/1' never means 'runs/10' as well."""
    trimmed = prefix.strip("/")
    return checked_key(trimmed) + "/" if trimmed else ""


def join(*parts: str) -> str:
    """The parts joined by '/', the empty ones left out."""
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def checked_range(key: str, size: int, offset: int, length: int) -> int:
    """Where `length` bytes from `offset` on begin in an object of `size` bytes; a negative offset counts from the end.

    Raises `OutOfRangeError` where the object does not hold all of them.
    """
    start = offset if offset >= 0 else size + offset
    if length < 0 or start < 0 or start + length > size:
        raise OutOfRangeError(f"{key!r} has {size} bytes, not {length} from {offset} on")
    return start
