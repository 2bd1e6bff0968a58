"""Reading a dataset whole, and what the store has: one place for those who want no more than that."""

from collections.abc import Sequence

import pyarrow as pa

from cluster.dataset.catalog import list_datasets, load_manifest, parse_reference, read_manifest
from cluster.dataset.dataset import open_dataset
from cluster.store import Store

__all__ = ["list_datasets", "load_manifest", "parse_reference", "read_manifest", "read_table"]


def read_table(store: Store, ref: str, split: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of one split (all by default) and some columns, in the dataset's order; see `Dataset.table`.

    Empty where the dataset has no row in the split. Raises `UserError` for an unknown split or column.
    """
    return open_dataset(ref, store=store).table(split, columns)
