"""What a published dataset says about itself. The manifest is written last: with it a version exists.

Since version 2, shards are in a pool that all versions of a dataset share, each named by its content, and the manifest
says where each row group is and what its bytes sum up to: a reader opens nothing but the manifest and checks what it
fetches.
"""

import json
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from cluster.dataset.schema import Kind
from cluster.store import encode_json

LISTED = 1000  # skipped rows that a manifest names; all are counted


class Group(NamedTuple):
    """One row group, or the footer (then of no rows): its bytes in the shard, and their crc32 (zlib's)."""

    rows: int
    offset: int
    bytes: int
    crc32: int


class Shard(BaseModel):
    """One Parquet file of rows of one split.

    path: below the folder of the dataset (version 1: of the version). content: digest of its rows, whatever the file
    is like. split, content, footer and groups are missing in version 1, whose shards hold rows of several splits.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    rows: int
    bytes: int
    sha256: str
    split: str | None = None
    content: str | None = None
    footer: Group | None = None
    groups: tuple[Group, ...] = ()


class Sidecar(BaseModel):
    """An Arrow IPC file beside the shards: one uint32 column `atoms`, a value a row, in the order of the dataset."""

    model_config = ConfigDict(frozen=True)

    path: str
    sha256: str
    bytes: int


class Skipped(BaseModel):
    """Rows that could not be read and were left out: how many, and of the first ones where and why."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    listed: tuple[dict[str, str], ...] = ()  # {"where": "file:line", "reason": ...}, at most `LISTED`


class Column(BaseModel):
    """One column: its type in words, its unit where it has one, and what else its field says."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    unit: str | None = None
    metadata: dict[str, str] = {}


class DatasetManifest(BaseModel):
    """One immutable version of a dataset.

    digest: of the content (`cluster.dataset.digest`), equal for equal rows. sizes: atoms (points) of each row.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    kind: Kind
    schema_version: int
    columns: tuple[Column, ...]
    rows: int
    splits: dict[str, int]
    shards: tuple[Shard, ...]
    digest: str
    statistics: dict[str, Any]
    provenance: dict[str, Any]
    created: datetime
    skipped: Skipped = Skipped()
    sizes: Sidecar | None = None

    @property
    def ref(self) -> str:
        """How specs name this version: 'name@3'."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> str:
        """Where the version is on the store."""
        return f"datasets/{self.name}/{self.version}"

    def key_of(self, file: Shard | Sidecar) -> str:
        """The key of one of its files on the store."""
        return f"{self.folder if self.schema_version == 1 else pool(self.name)}/{file.path}"

    def encode(self) -> bytes:
        """The manifest as JSON, a line for each shard: 2,000 of them are read in a moment, by eye as by machine."""
        document = self.model_dump(mode="json")
        shards = [json.dumps(shard, separators=(",", ":")) for shard in document.pop("shards")]
        head = encode_json(document).decode().removesuffix("\n}\n")
        lines = ",\n".join(shards)
        return f'{head},\n  "shards": [\n{lines}\n  ]\n}}\n'.encode()


def pool(name: str) -> str:
    """The folder that the versions of a dataset share; paths of shards are below it."""
    return f"datasets/{name}"
