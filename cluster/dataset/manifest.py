"""What a published dataset says about itself. The manifest is written last: with it a version exists."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from cluster.dataset.schema import Kind


class Shard(BaseModel):
    """One Parquet file; `path` is relative to the version's folder."""

    model_config = ConfigDict(frozen=True)

    path: str
    rows: int
    bytes: int
    sha256: str


class Column(BaseModel):
    """One column: its Arrow type in words, its unit where it has one, and what else its field says."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    unit: str | None = None
    metadata: dict[str, str] = {}


class DatasetManifest(BaseModel):
    """One immutable version of a dataset.

    digest: of the content (`cluster.dataset.digest`), equal for equal rows however they are stored.
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

    @property
    def ref(self) -> str:
        """How specs name this version: 'name@3'."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> str:
        """Where the version is on the store."""
        return f"datasets/{self.name}/{self.version}"
