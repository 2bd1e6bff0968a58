"""A snapshot on the local disk, with the digests of what was written."""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

from jobs.checkpoints.index import BLOCK, FileIndex
from jobs.checkpoints.snapshot import Snapshot
from jobs.checkpoints.stages import Reached


def write_file(snapshot: Snapshot, path: Path, name: str, reached: Reached) -> FileIndex:
    """Write it to `path`, to be called `name` on the store; returns its index.

    Block by block, so that a block is hashed while it is in the processor's cache; the interpreter is free meanwhile.
    """
    digest, sums, size = hashlib.sha256(), [], 0
    half = (len(snapshot.packing.head) + snapshot.packing.body) // 2
    with path.open("wb") as file:
        for block in _blocks(snapshot):
            digest.update(block)
            sums.append(zlib.crc32(block))
            file.write(block)
            if size <= half < size + len(block):
                reached("during write")
            size += len(block)
    return FileIndex(name, size, digest.hexdigest(), tuple(sums), snapshot.packing.places)


def _blocks(snapshot: Snapshot) -> Iterator[memoryview]:
    """The file in blocks: the first holds the head and the beginning of the body, unless the head is longer."""
    head, body = snapshot.packing.head, snapshot.body
    joined = len(head) + (-len(head) % BLOCK)
    first = head + bytes(body[: joined - len(head)])
    for start in range(0, len(first), BLOCK):
        yield memoryview(first)[start : start + BLOCK]
    for start in range(joined - len(head), len(body), BLOCK):
        yield body[start : start + BLOCK]
