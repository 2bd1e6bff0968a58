"""The lines of atoms of many frames at once, by Arrow's number parser; one by one where that finds something wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from ase.data import atomic_numbers
from numpy.typing import NDArray

from jobs.ingest.sources.xyz_comment import Columns
from jobs.ingest.sources.xyz_frames import Frame
from jobs.ingest.structures import Unreadable


@dataclass(frozen=True)
class Atoms:
    """The atoms of one frame."""

    numbers: NDArray[np.int64]  # (n,)
    real: dict[str, NDArray[np.float64]]  # (n, columns) each; positions always


def read_bodies(
    data: bytes, frames: Mapping[int, Frame], columns: Mapping[int, Columns], wanted: frozenset[str]
) -> dict[int, Atoms | Unreadable]:
    """The atoms of each frame, or why they cannot be read.

    wanted: names of columns of real numbers to read beside the positions, where a frame has them.
    """
    found: dict[int, Atoms | Unreadable] = {}
    for _, group in groupby(frames, key=lambda number: id(columns[number])):
        numbers = list(group)
        layout, bodies = columns[numbers[0]], [_body(data, frames[number]) for number in numbers]
        sizes = [frames[number].atoms for number in numbers]
        try:
            together = _read(b"".join(bodies), sum(sizes), layout, wanted)
        except (Unreadable, pa.ArrowInvalid):
            for number, body, size in zip(numbers, bodies, sizes, strict=True):
                found[number] = _read_alone(body, size, layout, wanted)
            continue
        ends = np.cumsum(sizes)
        for number, size, end in zip(numbers, sizes, ends, strict=True):
            mine = slice(end - size, end)
            found[number] = Atoms(together.numbers[mine], {k: v[mine] for k, v in together.real.items()})
    return found


def _body(data: bytes, frame: Frame) -> bytes:
    """The lines of the atoms, each with its end."""
    begin = data.index(b"\n", frame.begin) + 1
    begin = data.find(b"\n", begin, frame.end) + 1 or frame.end
    body = data[begin : frame.end]
    return body if body.endswith(b"\n") or not body else body + b"\n"


def _read(body: bytes, atoms: int, columns: Columns, wanted: frozenset[str]) -> Atoms:
    """All atoms. Raises Unreadable or ArrowInvalid where any line is not what the columns say."""
    # Without this a short line and a long one could make up for each other.
    if not np.array_equal(_words_by_line(body), np.full(atoms, columns.width)):
        raise Unreadable("a line has more or fewer columns than Properties says")
    words = pa.array(body.split(), pa.string())

    def column(place: range) -> pa.Array:
        rows = np.arange(atoms, dtype=np.int64)[:, None] * columns.width
        return words.take(pa.array((rows + np.arange(place.start, place.stop)).reshape(-1)))

    def reals(place: range) -> NDArray[np.float64]:
        return np.asarray(column(place).cast(pa.float64())).reshape(atoms, len(place))

    if "numbers" in columns.places:
        numbers = np.asarray(column(columns.places["numbers"]).cast(pa.int64()))
    else:
        numbers = _elements(column(columns.places["symbols"]))
    there = [name for name in columns.places if name == "positions" or name in wanted]
    return Atoms(numbers, {name: reals(columns.places[name]) for name in there})


def _elements(symbols: pa.Array) -> NDArray[np.int64]:
    encoded = symbols.dictionary_encode()
    known = [_element(symbol) for symbol in encoded.dictionary.to_pylist()]
    numbers: NDArray[np.int64] = np.array(known, dtype=np.int64)[np.asarray(encoded.indices)]
    return numbers


def _element(symbol: str) -> int:
    number = atomic_numbers.get(symbol.capitalize(), 0)
    if number == 0:
        raise Unreadable(f"there is no element {symbol!r}")
    return int(number)


def _words_by_line(body: bytes) -> NDArray[np.int64]:
    text = np.frombuffer(body, dtype=np.uint8)
    space = text <= 32
    begins = ~space
    begins[1:] &= space[:-1]
    so_far = np.searchsorted(np.flatnonzero(begins), np.flatnonzero(text == 10))
    words: NDArray[np.int64] = np.diff(so_far, prepend=0)
    return words


def _read_alone(body: bytes, atoms: int, columns: Columns, wanted: frozenset[str]) -> Atoms | Unreadable:
    """The slow way, which tells what is wrong and where, and takes every number that Python takes."""
    try:
        lines = body.decode("utf-8").split("\n")[:-1]
        rows = [_row(number, line.split(), columns) for number, line in enumerate(lines)]
        if len(rows) != atoms:
            raise Unreadable(f"says {atoms} atoms, but {len(rows)} follow")
        there = [name for name in columns.places if name == "positions" or name in wanted]
        return Atoms(
            np.array([_number(row, columns) for row in rows], dtype=np.int64),
            {name: _reals(rows, columns.places[name]) for name in there},
        )
    except Unreadable as problem:
        return problem
    except UnicodeDecodeError as error:
        return Unreadable(f"it is not text: {error}")


def _row(number: int, words: list[str], columns: Columns) -> list[str]:
    if len(words) != columns.width:
        raise Unreadable(f"its atom {number + 1} has {len(words)} columns, Properties says {columns.width}")
    return words


def _number(row: list[str], columns: Columns) -> int:
    if "numbers" not in columns.places:
        return _element(row[columns.places["symbols"].start])
    word = row[columns.places["numbers"].start]
    if not word.isdigit():
        raise Unreadable(f"{word!r} is no atomic number")
    return int(word)


def _reals(rows: Sequence[list[str]], place: range) -> NDArray[np.float64]:
    values: list[Any] = []
    for number, row in enumerate(rows):
        for word in row[place.start : place.stop]:
            try:
                values.append(float(word))
            except ValueError:
                raise Unreadable(f"its atom {number + 1}: {word!r} is no number") from None
    return np.array(values, dtype=np.float64).reshape(len(rows), len(place))
