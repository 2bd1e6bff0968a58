"""The checkpoints of a run, as one of its ranks sees them. Every method is called on every rank."""

import json
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cluster.errors import NotFoundError
from cluster.store import Store
from cluster.store.keys import join
from jobs.checkpoints.attempt import claim
from jobs.checkpoints.background import Background
from jobs.checkpoints.commit import Commit, committed_steps, read_commit
from jobs.checkpoints.errors import DamagedCheckpointError
from jobs.checkpoints.index import FileIndex
from jobs.checkpoints.layout import commit_name, home
from jobs.checkpoints.reading import check_file, read_indices, saved
from jobs.checkpoints.saving import Saver, Seat, Taken
from jobs.checkpoints.snapshot import SnapshotBuffer
from jobs.checkpoints.stages import Reached, go_on
from jobs.checkpoints.sweep import Sweeper
from jobs.ports import Saved
from jobs.spec.strategy import Checkpoint
from jobs.state.piece import BEST, Slots
from jobs.world import World

_SWEPT = "swept while it was read"


class RunCheckpoints:
    """Implements `jobs.ports.Checkpoints` on a store.

    Making one takes over the run: ranks of earlier attempts cannot commit any more.
    model: the description of the model, for those who export it. reached: see `stages`.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        world: World,
        policy: Checkpoint,
        scratch: Path,
        *,
        model: Mapping[str, Any] | None = None,
        reached: Reached = go_on,
    ) -> None:
        self._store, self._home, self._world, self._reached = store, home(run_id), world, reached
        attempt: int = world.gather(claim(store, self._home) if world.leads else 0)[0]
        self._attempt = attempt
        seat = Seat(store, self._home, attempt, world.rank, world.size, policy.patience, scratch, reached, model)
        self._saver = Saver(seat, Sweeper(store, self._home, attempt, policy, reached))
        self._background = Background("checkpoint")
        self._state, self._best = SnapshotBuffer(), SnapshotBuffer()
        self._step: int | None = None  # saved by this attempt
        self._damaged: set[int] = set()

    def newest(self) -> Saved | None:
        """The newest committed checkpoint, every file of it read and compared with its digest; None if there is none.

        A damaged one is passed over with a warning: steps are lost, the run is not. The ranks read the files between
        them. Raises DamagedCheckpointError where no committed checkpoint is intact: to begin again would lose the run
        silently. Raises CheckpointVersionError for another format.
        """
        self._background.wait()
        steps: list[int] = self._world.gather(committed_steps(self._store, self._home) if self._world.leads else [])[0]
        for step in reversed(steps):
            found, problem = self._checked(step)
            problems = [text for text in self._world.gather(problem) if text]
            if _SWEPT in problems:  # by an earlier attempt that is still alive, and has committed a newer one before
                return self.newest()
            if found is not None and not problems:
                commit, indices = found
                self._step = step if commit.attempt == self._attempt else None
                if self._world.rank < len(indices):
                    self._saver.remember([file for file in indices[self._world.rank] if _is_best(file)])
                if self._world.leads:
                    self._background.start(partial(self._saver.sweep, step, self._damaged))
                return saved(self._store, self._home, commit, indices)
            self._damaged.add(step)
            if self._world.leads:
                warnings.warn(f"checkpoint {step} is passed over: {problems[0]}", stacklevel=2)
        if steps:
            raise DamagedCheckpointError(
                f"none of the checkpoints {', '.join(map(str, steps))} is intact",
                hint="restore the files from a copy of the store, or submit the spec as a new run",
            )
        if self._world.leads:
            self._background.start(partial(self._saver.sweep, 0, self._damaged))
        return None

    def save(
        self, step: int, slots: Slots, shapes: Mapping[str, tuple[int, ...]], notes: Mapping[str, Any], *, best: bool
    ) -> None:
        """Copy this rank's pieces; they are written and committed behind the training.

        A step that this attempt has saved already is not saved again; one of an earlier attempt gives way.
        """
        self._background.wait()
        if step == self._step:
            return
        self._reached("before copy")
        new = best or not self._saver.keeps_best
        taken = Taken(
            step,
            self._state.take({slot: pieces for slot, pieces in slots.items() if slot != BEST}),
            self._best.take({BEST: slots[BEST]}) if BEST in slots and new else None,
            best,
            dict(shapes),
            json.loads(json.dumps(dict(notes))),  # what the loop changes from now on is of later steps
        )
        self._reached("after copy")
        self._step = step
        self._damaged.discard(step)  # the new one takes its place
        self._background.start(lambda: self._saver.save(taken, self._damaged))

    def finish(self) -> None:
        """Wait until everything that was saved is committed."""
        self._background.wait()

    def _checked(self, step: int) -> tuple[tuple[Commit, list[list[FileIndex]]] | None, str]:
        """The commit and its indices; this rank's share of the files is read. Otherwise what is wrong."""
        try:
            commit = read_commit(self._store, self._home, step)
            indices = read_indices(self._store, self._home, commit)
            names = [name for name in sorted(commit.files) if name not in commit.indices]
            for name in names[self._world.rank :: self._world.size]:
                check_file(self._store, self._home, name, commit)
        except NotFoundError:
            return None, _SWEPT
        except DamagedCheckpointError as error:
            there = self._store.exists(join(self._home, commit_name(step)))  # it goes first, then its files
            return None, error.message if there else _SWEPT
        return (commit, indices), ""


def _is_best(file: FileIndex) -> bool:
    return any(piece.slot == BEST for piece in file.pieces)
