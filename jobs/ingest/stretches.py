"""Stretches of a text file: found by their place, read in pieces of whole ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jobs.ingest.source import BYTES_A_PIECE

Text = NDArray[np.uint8]


@dataclass(frozen=True)
class Stretch:
    """Bytes `begin` to `end` of a text that hold one row, from line `line` (counted from 0) on."""

    begin: int
    end: int
    line: int


S = TypeVar("S", bound=Stretch)


def text_of(path: Path) -> Text:
    """The bytes of a file, mapped."""
    if not path.stat().st_size:  # which cannot be mapped
        return np.empty(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)  # whose slices are cheap


def cut(found: Iterable[S], size: int | None = None) -> Iterator[list[S]]:
    """The stretches in runs of about `size` bytes (BYTES_A_PIECE)."""
    most = BYTES_A_PIECE if size is None else size
    run: list[S] = []
    for stretch in found:
        if run and stretch.end - run[0].begin > most:
            yield run
            run = []
        run.append(stretch)
    if run:
        yield run
