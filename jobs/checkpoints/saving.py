"""What happens to a snapshot behind the training: written, uploaded, indexed; then committed by the leading rank."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store import Store
from cluster.store.keys import join
from cluster.store.retrying import Patience, persist
from jobs.checkpoints.attempt import require_current
from jobs.checkpoints.commit import FORMAT_VERSION, Commit, Stored, read_commit, write_commit
from jobs.checkpoints.coverage import require_whole
from jobs.checkpoints.errors import DamagedCheckpointError, OutdatedAttemptError, UnfinishedCheckpointError
from jobs.checkpoints.index import FileIndex
from jobs.checkpoints.layout import file_name, index_name
from jobs.checkpoints.snapshot import Snapshot
from jobs.checkpoints.stages import Reached
from jobs.checkpoints.sweep import Sweeper
from jobs.checkpoints.writing import write_file

_POLL_S = (0.02, 1.0)  # between two looks at the store, at first and at most
_THREADS = 8

Result = TypeVar("Result")


@dataclass(frozen=True)
class Taken:
    """A checkpoint of which this rank's part is in memory. best: of the slot of that name, if it is new."""

    step: int
    state: Snapshot
    best: Snapshot | None
    is_best: bool
    shapes: Mapping[str, tuple[int, ...]]
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class Seat:
    """Who writes where: this rank, of this attempt. patience: seconds for which a store that is down is tried again."""

    store: Store
    home: str
    attempt: int
    rank: int
    size: int
    patience: float
    scratch: Path
    reached: Reached
    model: Mapping[str, Any] | None = None


class Saver:
    """Brings snapshots to the store, one after the other, in a thread that knows nothing of torch.distributed."""

    def __init__(self, seat: Seat, sweeper: Sweeper) -> None:
        self._seat, self._sweeper = seat, sweeper
        self._best: dict[str, FileIndex] = {}  # files of the newest commit with best weights, by sha256
        self._kept: list[FileIndex] | None = None  # the same, where this attempt has made that commit

    @property
    def keeps_best(self) -> bool:
        """Whether this attempt has committed best weights, so that those which have not changed need not be taken."""
        return self._kept is not None

    def remember(self, files: Collection[FileIndex]) -> None:
        """Files of a committed checkpoint, which the next one may name instead of writing the same again."""
        self._best = {file.sha256: file for file in files}

    def save(self, taken: Taken, damaged: Collection[int]) -> None:
        """Until the checkpoint is committed. Raises CheckpointError, and StoreError when patience is at an end."""
        seat, began = self._seat, time.monotonic()
        if taken.best is not None:
            self._kept = None  # until these are committed
        files = [self._write(taken.step, taken.state, best=False)]
        seat.reached("between files")
        if taken.best is None:
            files += self._kept or []
        elif taken.best.packing.places:
            files.append(self._write(taken.step, taken.best, best=True))
        seat.reached("after upload")
        index = {"format_version": FORMAT_VERSION, "files": [file.to_json() for file in files]}
        data = json.dumps(index, separators=(",", ":")).encode()
        self._persist(lambda: seat.store.write(self._key(index_name(taken.step, seat.attempt, seat.rank)), data))
        seat.reached("after index")
        # Other ranks have about as much to write: as long again as it took here is no delay.
        limit = time.monotonic() + seat.patience + (time.monotonic() - began)
        if seat.rank == 0:
            self._commit(taken, limit)
        else:
            self._await_commit(taken.step, limit)
        self.remember(files[1:])
        if taken.best is not None:
            self._kept = files[1:]
        if seat.rank == 0:
            self.sweep(taken.step, damaged)

    def sweep(self, committed: int, damaged: Collection[int]) -> None:
        """Remove what is not kept. What cannot be removed now is left to the next time: no reason to stop training."""
        try:
            self._sweeper.sweep(committed, damaged)
        except StoreError as error:
            warnings.warn(f"old checkpoints could not be swept: {error}", stacklevel=2)

    def _write(self, step: int, snapshot: Snapshot, *, best: bool) -> FileIndex:
        seat = self._seat
        name = file_name(step, seat.attempt, seat.rank, best=best)
        path = seat.scratch / name.replace("/", "-")
        try:
            file = write_file(snapshot, path, name, seat.reached)
            if best and file.sha256 in self._best:
                return self._best[file.sha256]
            seat.reached("before upload")
            self._persist(lambda: seat.store.upload_file(path, self._key(name)))
        finally:
            path.unlink(missing_ok=True)
        return file

    def _commit(self, taken: Taken, limit: float) -> None:
        seat = self._seat
        names = [index_name(taken.step, seat.attempt, rank) for rank in range(seat.size)]
        self._await_indices(taken.step, names, limit)
        with ThreadPoolExecutor(_THREADS) as pool:
            texts = list(pool.map(lambda name: self._persist(lambda: seat.store.read(self._key(name))), names))
        files = [FileIndex.from_json(file) for text in texts for file in json.loads(text)["files"]]
        pieces = [piece for file in files for piece in file.pieces]
        require_whole(pieces, taken.shapes)
        stored = {file.name: Stored(file.sha256, file.bytes) for file in files}
        stored |= {
            name: Stored(hashlib.sha256(text).hexdigest(), len(text)) for name, text in zip(names, texts, strict=True)
        }
        slots = tuple(sorted({piece.slot for piece in pieces}))
        commit = Commit(
            taken.step,
            seat.attempt,
            seat.size,
            taken.is_best,
            stored,
            tuple(names),
            slots,
            taken.shapes,
            taken.notes,
            seat.model,
        )
        seat.reached("before commit")
        self._persist(lambda: require_current(seat.store, seat.home, seat.attempt))
        self._persist(lambda: write_commit(seat.store, seat.home, commit))
        seat.reached("after commit")

    def _await_indices(self, step: int, names: list[str], limit: float) -> None:
        folder = join(self._seat.home, names[0].partition("/")[0])

        def missing() -> list[int]:
            there = set(self._persist(lambda: self._seat.store.list(folder)))
            return [rank for rank, name in enumerate(names) if self._key(name) not in there]

        if left := _until_empty(missing, limit):
            ranks = ", ".join(map(str, left[:8])) + (", ..." if len(left) > 8 else "")
            why = f"the part of rank {ranks} has not come"
            raise UnfinishedCheckpointError(f"checkpoint {step} cannot be committed: {why}")

    def _await_commit(self, step: int, limit: float) -> None:
        seat = self._seat

        def waiting() -> list[int]:
            try:
                attempt = self._persist(lambda: read_commit(seat.store, seat.home, step)).attempt
            except (NotFoundError, DamagedCheckpointError):
                attempt = 0
            if attempt > seat.attempt:
                raise OutdatedAttemptError(f"attempt {attempt} has committed step {step} already")
            return [] if attempt == seat.attempt else [step]

        if _until_empty(waiting, limit):
            why = "rank 0 is gone or waits for another rank"
            raise UnfinishedCheckpointError(f"checkpoint {step} was not committed: {why}")

    def _persist(self, call: Callable[[], Result]) -> Result:
        """What `call` returns, however long the store takes to come back, within patience."""
        return persist(call, _passes, Patience(attempts=1_000_000, seconds=self._seat.patience, first=0.2))

    def _key(self, name: str) -> str:
        return join(self._seat.home, name)


def _passes(error: Exception) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, PreconditionFailedError)


def _until_empty(look: Callable[[], list[int]], limit: float) -> list[int]:
    """Look again and again until nothing is left, or the time is up; returns what is left."""
    pause, longest = _POLL_S
    while left := look():
        if time.monotonic() > limit:
            break
        time.sleep(pause)
        pause = min(longest, 1.5 * pause)
    return left
