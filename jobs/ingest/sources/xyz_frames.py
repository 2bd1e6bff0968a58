"""Where the frames of an XYZ text begin, without reading them.

A frame is a line with the number of atoms, a comment, and a line for each atom. Its end is believed only where no
number stands alone before it and no atom behind it: a frame of an atom too few or too many costs no neighbour.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.ingest.stretches import Stretch, Text

_ATOM = 4  # words of a line that may be an atom: its species and its place
_SHORT = 12  # bytes; a line that is only a number has no more
_WINDOW = 16 << 20  # bytes searched for line ends at a time: memory must not follow the size of the file


@dataclass(frozen=True)
class Frame(Stretch):
    """One frame."""

    atoms: int
    lines: int  # that it takes up
    problem: str | None = None  # why it cannot be read


def frames(text: Text, window: int = _WINDOW) -> Iterator[Frame]:
    """Every frame of a text of any length, in turn."""
    at, line, size = 0, 0, window
    while at < len(text):
        piece = text[at : at + size]
        if at + size < len(text):
            piece = piece[: _last_end(piece)]  # half a line would be taken for another
        there = list(_within(piece, at, line))
        if at + size < len(text):
            # The last one may go on behind the window, and what follows decides whether it is whole.
            if len(there) < 2:
                size *= 2
                continue
            there.pop()
        yield from there
        if at + size >= len(text):
            return
        line, at, size = there[-1].line + there[-1].lines, there[-1].end, window


def _within(text: Text, offset: int, first_line: int) -> Iterator[Frame]:
    """The frames of a text that is part of another, in the places and lines of that."""
    ends = line_ends(text)
    starts = np.concatenate([[0], ends + 1])[: len(ends)]
    counts = _lone_numbers(text, starts, ends)
    heads = sorted(counts)

    def words(line: int) -> int:
        return len(text[starts[line] : ends[line]].tobytes().split())

    def next_head(after: int) -> int:
        place = bisect_right(heads, after)
        return heads[place] if place < len(heads) else len(ends)

    def frame(at: int, stop: int, atoms: int = 0, problem: str | None = None) -> Frame:
        begin, end = int(starts[at]) + offset, min(int(ends[stop - 1]) + 1, len(text)) + offset
        return Frame(begin, end, first_line + at, atoms, stop - at, problem)

    at = 0
    while at < len(ends):
        if at in counts:
            atoms, stop, head = counts[at], at + counts[at] + 2, next_head(at + 1)
            if head >= stop and (stop in (head, len(ends)) or (stop < len(ends) and words(stop) < _ATOM)):
                yield frame(at, stop, atoms)
            else:
                stop = head
                follow = sum(words(line) > 0 for line in range(at + 2, min(stop, at + atoms + 3)))
                more = "or more " if follow > atoms else ""
                yield frame(at, stop, problem=f"says {atoms} atoms, but {follow} {more}follow")
            at = stop
        elif not words(at):
            at += 1
        else:
            word = text[starts[at] : min(ends[at], starts[at] + 40)].tobytes().decode(errors="replace").strip()
            stop = next_head(at)
            yield frame(at, stop, problem=f"expected a number of atoms, found {word!r}")
            at = stop


def _last_end(text: Text) -> int:
    """Behind the last whole line."""
    ends = np.flatnonzero(text == 10)
    return int(ends[-1]) + 1 if len(ends) else 0


def line_ends(text: Text) -> NDArray[np.int64]:
    """The position of the end of each line; a last line without one ends with the text."""
    ends: NDArray[np.int64] = np.flatnonzero(text == 10)
    if len(text) and (not len(ends) or ends[-1] != len(text) - 1):
        ends = np.append(ends, len(text))
    return ends


def _lone_numbers(text: Text, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> dict[int, int]:
    """The lines that are a whole number and nothing else."""
    found = {}
    for line in np.flatnonzero(ends - starts <= _SHORT).tolist():
        word = text[starts[line] : ends[line]].tobytes().strip()
        if word.isdigit():
            found[line] = int(word)
    return found
