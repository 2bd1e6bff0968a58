"""How rows are laid out in files: row groups of about 4 MiB, shards of about 64 MiB.

Both follow from the values alone, not from how tables were chunked or who wrote them: equal rows give equal files.
"""

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cluster.dataset.tensors import is_tensor

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData

GROUP_BYTES = 4 << 20  # before compression: what a reader reads at least, and shuffles together
SHARD_BYTES = 64 << 20
GROUP_ROWS = (64, 65536)  # the fewest and the most


def content_bytes(table: pa.Table) -> int:
    """Bytes of the values, 4 for each list or text beside them. `Table.nbytes` would depend on chunks and slices."""
    return sum(_bytes_of(chunk) for column in table.columns for chunk in column.chunks)


def shard_cuts(rows: int, nbytes: int, rows_per_shard: int | None = None) -> list[int]:
    """Where the rows of one split are cut into shards: 0, the cuts between them, and `rows`.

    nbytes: `content_bytes` of the split. Shards of a split differ by one row at most.
    """
    pieces = -(-rows // rows_per_shard) if rows_per_shard else max(1, round(nbytes / SHARD_BYTES))
    pieces = max(1, min(pieces, rows))
    return [piece * rows // pieces for piece in range(pieces + 1)]


def group_rows(rows: int, nbytes: int) -> int:
    """Rows of each row group of a shard but the last, which has hardly fewer."""
    fewest, most = GROUP_ROWS
    size = min(max(GROUP_BYTES * rows // max(nbytes, 1), fewest), most)
    return max(1, -(-rows // -(-rows // size)))


def group_ranges(metadata: "FileMetaData") -> list[tuple[int, int, int]]:
    """Rows, offset and bytes of each row group of a Parquet file."""
    ranges = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(place) for place in range(group.num_columns)]
        # pyarrow gives 0 or None where a column has no dictionary, by release.
        offset = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
        end = max(
            (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
            for column in columns
        )
        ranges.append((group.num_rows, offset, end - offset))
    return ranges


def _bytes_of(array: pa.Array) -> int:
    kind = array.type
    if is_tensor(kind):
        return _bytes_of(array.storage)
    if pa.types.is_string(kind):
        return 4 * len(array) + (pc.sum(pc.binary_length(array)).as_py() or 0)
    if pa.types.is_list(kind):
        return 4 * len(array) + _bytes_of(array.flatten())
    if pa.types.is_fixed_size_list(kind):
        return _bytes_of(array.flatten())
    width: int = kind.bit_width
    return len(array) * max(width // 8, 1)
