"""How many atoms each structure has (points, each cloud): a small file beside the shards, since packing needs it."""

import hashlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.fitting import lengths
from cluster.dataset.manifest import DatasetManifest
from cluster.dataset.schema import Kind
from cluster.errors import DamagedDataError, NotFoundError
from cluster.store import Store

_COUNTED = {"structures": "numbers", "points": "positions"}  # the column whose lists have a value for each


def sizes_of(table: pa.Table, kind: Kind) -> NDArray[np.uint32] | None:
    """Atoms of each structure or points of each cloud; None for other kinds."""
    if kind == "structures":
        return lengths(table["numbers"]).astype(np.uint32)
    return (lengths(table["positions"]) // 3).astype(np.uint32) if kind == "points" else None


def encode_sizes(sizes: NDArray[np.uint32]) -> bytes:
    """The sidecar of sizes (rows,): an Arrow IPC file with one column, `atoms`."""
    sink = pa.BufferOutputStream()
    table = pa.table({"atoms": pa.array(sizes, pa.uint32())})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def read_sizes(
    store: Store, manifest: DatasetManifest, read: Callable[[None, list[str]], pa.Table]
) -> NDArray[np.uint32]:
    """(rows,) in the order of the dataset. read: (split, columns) -> rows, for datasets without a sidecar.

    Raises `NotFoundError` for a lost file, `DamagedDataError` for a changed one.
    """
    if manifest.sizes is None:
        counted = sizes_of(read(None, [_COUNTED[manifest.kind]]), manifest.kind)
        return counted if counted is not None else np.empty(0, dtype=np.uint32)
    try:
        data = store.read(manifest.key_of(manifest.sizes))
    except NotFoundError as error:
        raise NotFoundError(f"dataset {manifest.ref} has lost {manifest.sizes.path}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.sizes.sha256:
        expected = manifest.sizes.sha256
        raise DamagedDataError(
            f"dataset {manifest.ref}: {manifest.sizes.path}, sha256 expected {expected}, found {found}"
        )
    sizes: NDArray[np.uint32] = pa.ipc.open_file(pa.py_buffer(data)).read_all()["atoms"].to_numpy()
    return sizes
