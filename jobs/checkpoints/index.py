"""What a file of a checkpoint holds and where: enough to read any stretch of it, and to see whether it is intact.

A file is safetensors. Beside its sha256, the crc32 of each block of 2 MiB is kept: a rank that needs a part of a file
reads and checks the blocks of that part only.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

BLOCK = 2 << 20  # bytes
DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Place:
    """Where a piece is in a file: `count` numbers from byte `offset` on, which are those from `start` on."""

    slot: str
    parameter: str
    dtype: str  # safetensors' name
    start: int
    count: int
    offset: int

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class FileIndex:
    """One file: its name below the home of the checkpoints, its size, its digests and its pieces."""

    name: str
    bytes: int
    sha256: str
    crc32: tuple[int, ...]  # of each block
    pieces: tuple[Place, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data; a piece is a list, as there are many."""
        return {**asdict(self), "pieces": [list(asdict(piece).values()) for piece in self.pieces]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "FileIndex":
        """The inverse of `to_json`."""
        pieces = tuple(Place(*values) for values in data["pieces"])
        return cls(data["name"], data["bytes"], data["sha256"], tuple(data["crc32"]), pieces)
