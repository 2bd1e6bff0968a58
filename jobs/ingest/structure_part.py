"""What a piece of a text file of structures gave, from what was found in each of its stretches."""

from collections.abc import Mapping, Sequence

import numpy as np

from jobs.ingest.columns import numbered, table_of
from jobs.ingest.source import Part, Piece, Unread
from jobs.ingest.stretches import Stretch
from jobs.ingest.structures import Structure, structure_columns


def structure_part(
    piece: Piece,
    stretches: Sequence[Stretch],
    found: Mapping[int, Structure],
    problems: Mapping[int, str],
    groups: Mapping[int, str] | None,
) -> Part:
    """The part of `piece`; `found`, `problems` and `groups` are by number of the stretch.

    Rows have the name of the piece and their number in the file as identifiers; without groups each is one of its own.
    """

    def where(number: int) -> str:
        return f"{piece.shown}:{piece.detail['line'] + stretches[number].line + 1}"

    good = sorted(found)
    ids = numbered(piece.name, np.array(good, dtype=np.int64) + piece.first)
    columns = structure_columns([found[number] for number in good])
    return Part(
        table_of(ids, columns, piece.split, None if groups is None else [groups[number] for number in good]),
        lambda row: where(good[row]),
        [Unread(where(number), problems[number]) for number in sorted(problems)],
    )
