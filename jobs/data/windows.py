"""Windows of shuffled rows, read and decoded ahead by threads, and kept in memory where all of them fit."""

from collections import OrderedDict
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from cluster.dataset.dataset import Dataset, GroupIndex
from jobs.data.forms.form import Form
from jobs.data.order import Integers, Order, Window, rows_in_order, window_at
from jobs.data.rows import Column, Rows

ROW = "row"  # the column that says which row of the dataset each is


@dataclass(frozen=True)
class Shuffled:
    """A window in the order of its samples, which are `rows.take(order)`; `rows` may hold others beside them."""

    window: Window
    rows: Rows
    order: Integers


class Windows:
    """The windows of one split, from a position on, epoch after epoch.

    keep: bytes of decoded groups that stay in memory, least recently used ones leave. Where all of them fit they are
    put together once, after the first epoch; a window is then only an order.
    """

    def __init__(self, dataset: Dataset, index: GroupIndex, form: Form, order: Order, *, keep: int) -> None:
        self._dataset, self._index, self._form, self._order = dataset, index, form, order
        self._columns = form.columns(dataset.schema)
        self._rows = tuple(int(count) for count in index.rows)
        self._keep, self._kept = keep, OrderedDict[int, Rows]()
        self._whole: Rows | None = None  # all groups, one after another
        self._starts = np.cumsum([0, *self._rows])

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return sum(self._rows)

    def after(self, epoch: int, consumed: int, epochs: int | None) -> Iterator[Window]:
        """The windows from this position on, until `epochs` are over; without end where that is None."""
        position = consumed
        while epochs is None or epoch < epochs:
            while position < self.samples:
                window = window_at(self._rows, self._order, epoch, position)
                yield window
                position = window.stop
            epoch, position = epoch + 1, 0

    def read(
        self, windows: Iterator[Window], pool: ThreadPoolExecutor, *, ahead: int
    ) -> Generator[Shuffled, None, None]:
        """Each window with its rows; the groups of `ahead` more are being read meanwhile."""
        waiting: list[tuple[Window, list[Future[Rows]]]] = []
        try:
            while True:
                for window in islice(windows, ahead + 1 - len(waiting)):
                    groups = () if self._whole is not None else window.groups
                    waiting.append((window, [pool.submit(self._group, group) for group in groups]))
                if not waiting:
                    return
                window, futures = waiting.pop(0)
                order = rows_in_order(window, self._order)
                if self._whole is not None:
                    yield Shuffled(window, self._whole, self._lying(window)[order])
                    continue
                parts = [future.result() for future in futures]
                self._remember(window.groups, parts)
                yield Shuffled(window, Rows.join(parts, pool.map), order)
                if self._whole is None and len(self._kept) == len(self._rows):
                    self._put_together(pool)
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()

    def _group(self, group: int) -> Rows:
        """The rows of one group of the split, decoded."""
        kept = self._kept.get(group)
        if kept is not None or self._whole is not None:  # then nobody asks for what was begun before
            return kept or Rows(0, {})
        index = self._index
        rows = self._form.decode(self._dataset.read_group(int(index.number[group]), self._columns))
        first, skip, count = int(index.first[group]), int(index.skip[group]), int(index.rows[group])
        if (skip, count) != (0, len(rows)):
            rows = rows.slice(skip, skip + count)
        return Rows(count, {**rows.columns, ROW: Column(np.arange(first, first + count))})

    def _put_together(self, pool: ThreadPoolExecutor) -> None:
        """Make one of all groups, which are all kept."""
        self._whole = Rows.join([self._kept[group] for group in range(len(self._rows))], pool.map)
        self._kept.clear()

    def _lying(self, window: Window) -> Integers:
        """Where the rows of the window's groups, one group after another, are among all."""
        return np.concatenate([np.arange(self._starts[group], self._starts[group + 1]) for group in window.groups])

    def _remember(self, groups: tuple[int, ...], parts: list[Rows]) -> None:
        """Keep the groups that were used last. Called by one thread; the others only look."""
        for group, rows in zip(groups, parts, strict=True):
            self._kept[group] = rows
            self._kept.move_to_end(group)
        held = sum(rows.nbytes for rows in self._kept.values())
        while held > self._keep and self._kept:
            held -= self._kept.popitem(last=False)[1].nbytes
