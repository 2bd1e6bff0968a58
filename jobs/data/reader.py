"""Batches of a dataset for training: shuffled, shared by ranks, read ahead, and resumed at any step to the sample.

The stream of samples is one epoch after another, in the order of `jobs.data.order`; steps and batches are cut from it
by `jobs.data.batching`. So which samples a step sees depends on the seed, the batch and where the step starts, and the
samples of a step are the same for any number of ranks where the batch is counted.
"""

from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from cluster.dataset.dataset import Dataset
from cluster.errors import UserError
from jobs.data.ahead import Ahead
from jobs.data.batching import Budget, Count
from jobs.data.forms import Form, form_of
from jobs.data.order import Integers, Order
from jobs.data.position import Position
from jobs.data.rows import Rows
from jobs.data.windows import ROW, Windows

KEEP_BYTES = 256 << 20
_TASK_BYTES = 8 << 20  # of rows as they are in the dataset; large images become several times as much
_QUEUED = 4  # tasks that are ahead of the consumer, each of so many rows as the form prepares at once


@dataclass(frozen=True)
class Piece:
    """A share of this rank: which rows of which windows, and how many samples all ranks have had after its step."""

    parts: list[tuple[Rows, Integers]]
    after: int  # since the iteration began

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.parts)


class Reader:
    """Iterate for the batches of this rank, one a step; what an optimizer takes together may be several.

    batch: samples of a step of all ranks together, or a `Budget` for each rank. epochs: how many one iteration goes
    through; its last batch may be short, and missing on some ranks. None: without end. form: what batches are made of;
    that of the dataset's kind by default. window: row groups that are shuffled together. keep: bytes of decoded rows
    that stay in memory. threads: that read, decode and make batches.

    Beginning to iterate again goes on from `state()`. Not safe to share between threads.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        split: str = "train",
        batch: int | Count | Budget,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        form: Form | None = None,
        shuffle: bool = True,
        epochs: int | None = None,
        window: int = 8,
        keep: int = KEEP_BYTES,
        threads: int | None = None,
    ) -> None:
        """Raises UserError for a split without rows, or a batch that cannot be shared."""
        if not 0 <= rank < world:
            raise UserError(f"rank {rank} of {world} ranks", allowed=f"0 to {world - 1}")
        if window < 1:
            raise UserError(f"a window of {window} row groups", allowed="at least 1")
        self._batch = Count(batch) if isinstance(batch, int) else batch
        self._batch.cutter(world)  # refuses what cannot be shared
        self._dataset, self._rank, self._world, self._epochs = dataset, rank, world, epochs
        self._form = form or form_of(dataset.manifest.kind)
        index = dataset.groups(split)
        self._windows = Windows(dataset, index, self._form, Order(seed, window, shuffle), keep=keep)
        if not self._windows.samples:
            raise UserError(f"dataset {dataset.manifest.ref} has no {split} split")
        # Of a folder two threads read faster than one core decodes; a bucket answers more at a time.
        self._threads = threads or (8 if dataset.store.local_path("datasets") is None else 2)
        self._start = Position(0, 0, dataset.manifest.digest, split, seed, window, shuffle)
        self._given = 0  # samples since the start
        self._last: Integers = np.empty(0, dtype=np.int64)

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return self._windows.samples

    @property
    def consumed(self) -> int:
        """Samples that all ranks have been given since the first epoch began."""
        return self._position.epoch * self.samples + self._position.consumed

    @property
    def _position(self) -> Position:
        return self._start.moved(self._given, self.samples)

    @property
    def rows(self) -> Integers:
        """Which rows of the dataset this rank's last batch held, in its order."""
        return self._last

    def identifiers(self, rows: Integers | None = None) -> list[str]:
        """The ids of some rows, of this rank's last batch by default, for messages. Reads them from the store."""
        return self._dataset.identifiers((self._last if rows is None else rows).tolist())

    def state(self) -> dict[str, Any]:
        """Where all ranks are after the last batch, as JSON; the same on every rank."""
        return self._position.to_json()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on there. Costs no reading. Raises UserError for the state of another dataset, split, seed or order."""
        position = Position.from_json(state)
        self._start.require_same_stream(position)
        self._start, self._given = position, 0

    def __iter__(self) -> Generator[Any, None, None]:
        self._start, self._given = self._position, 0
        with ThreadPoolExecutor(self._threads, "equi-decode") as pool:
            try:
                with Ahead(self._tasks(pool), _QUEUED) as tasks:
                    for task in tasks:
                        prepared, pieces = task.result()
                        at = 0
                        for piece in pieces:
                            own = prepared.slice(at, at + len(piece))
                            at += len(piece)
                            batch = self._form.batch(own)
                            self._last, self._given = own[ROW].values, piece.after
                            yield batch
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        # A rank without a share of the last step is at the end all the same.
        self._given += -self._position.consumed % self.samples

    def _tasks(self, pool: ThreadPoolExecutor) -> Iterator[Future[tuple[Rows, list[Piece]]]]:
        """The preparation of batches, several in a task, in the order of the batches."""
        waiting: list[Piece] = []
        held, wanted = 0, 1  # samples of the task that is filled; the first batch does not wait for others
        with closing(self._pieces(pool)) as pieces:
            for piece in pieces:
                waiting.append(piece)
                held += len(piece)
                window, _ = piece.parts[0]
                fitting = _TASK_BYTES * len(window) // max(window.nbytes, 1)
                if held >= min(wanted, fitting):
                    yield pool.submit(self._prepared, waiting)
                    waiting, held, wanted = [], 0, min(8 * wanted, self._form.at_once)
        if waiting:
            yield pool.submit(self._prepared, waiting)

    def _prepared(self, pieces: list[Piece]) -> tuple[Rows, list[Piece]]:
        """The rows of the pieces, one piece after another, taken from each window all at once."""
        runs = _runs([part for piece in pieces for part in piece.parts])
        taken = [run[0][0].take(np.concatenate([rows for _, rows in run])) for run in runs]
        return self._form.prepare(Rows.join(taken)), pieces

    def _pieces(self, pool: ThreadPoolExecutor) -> Generator[Piece, None, None]:
        """This rank's shares of the stream, from the position on."""
        at, given = self._start, 0
        end = None if self._epochs is None else at.epoch + self._epochs
        cutter, share = self._batch.cutter(self._world), 0  # share: number of the open one within its step
        begun: list[tuple[Rows, Integers]] = []  # this rank's share, until the step is complete
        windows = self._windows.after(at.epoch, at.consumed, end)
        with closing(self._windows.read(windows, pool, ahead=1)) as read:
            for shuffled in read:
                order = shuffled.order[at.consumed - shuffled.window.start :]
                cuts = cutter.cut(len(order), self._weights(shuffled.rows, order))
                bounds = [0, *cuts, len(order)]
                for number, (first, last) in enumerate(pairwise(bounds)):
                    if share == self._rank and last > first:
                        begun.append((shuffled.rows, order[first:last]))
                    if number == len(cuts):
                        break
                    share += 1
                    if share == self._world:
                        yield Piece(begun, given + last)
                        share, begun = 0, []
                at, given = at.moved(len(order), self.samples), given + len(order)
        if begun:
            yield Piece(begun, given)

    def _weights(self, rows: Rows, order: Integers) -> dict[str, Integers]:
        """What each sample of a window weighs. Raises UserError for one that exceeds the budget by itself."""
        if isinstance(self._batch, Count):
            return {}
        limits = self._batch.limits
        weights = {name: found[order] for name, found in self._form.weights(rows, frozenset(limits)).items()}
        for name, limit in limits.items():
            heaviest = int(weights[name].argmax())
            if weights[name][heaviest] > limit:
                (sample,) = self._dataset.identifiers([int(rows[ROW].values[order[heaviest]])])
                raise UserError(
                    f"sample {sample!r} has {weights[name][heaviest]} {name}, more than a whole batch may hold",
                    allowed=f"a budget of {limit} {name} or more a sample",
                    hint=f"raise the budget of {name}, or filter such samples out of the dataset",
                )
        return weights


def _runs(parts: list[tuple[Rows, Integers]]) -> list[list[tuple[Rows, Integers]]]:
    """The parts in order, those that follow each other in the same window together."""
    runs: list[list[tuple[Rows, Integers]]] = []
    for part in parts:
        if runs and runs[-1][0][0] is part[0]:
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs
