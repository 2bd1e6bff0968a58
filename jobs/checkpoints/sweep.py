"""Removing what is not kept: first the commit of a checkpoint, then its files, so that no commit ever names nothing."""

from collections.abc import Collection, Iterable

from cluster.errors import NotFoundError
from cluster.store import Store
from cluster.store.keys import join
from jobs.checkpoints.attempt import require_current
from jobs.checkpoints.commit import Commit, read_commit
from jobs.checkpoints.errors import CheckpointVersionError, DamagedCheckpointError
from jobs.checkpoints.layout import commit_name, parsed
from jobs.checkpoints.retention import kept, orphans
from jobs.checkpoints.stages import Reached
from jobs.spec.strategy import Checkpoint


class Sweeper:
    """Sweeps the checkpoints of a run for one attempt at it. Killed anywhere, the next sweep does the rest."""

    def __init__(self, store: Store, home: str, attempt: int, policy: Checkpoint, reached: Reached) -> None:
        self._store, self._home, self._attempt, self._policy = store, home, attempt, policy
        self._reached = reached
        self._read: dict[int, Commit] = {}

    def sweep(self, committed: int, damaged: Collection[int] = ()) -> None:
        """Remove what is not kept. committed: the step that this attempt has just committed, or resumes from; or 0.

        damaged: committed steps that do not count. Commits of later steps do not count either: a worker of an earlier
        attempt made them after this one had begun. Raises OutdatedAttemptError, and removes nothing, where a later
        attempt has taken over.
        """
        names = [key.removeprefix(f"{self._home}/") for key in self._store.list(self._home)]
        steps = {name.step for name in map(parsed, names) if name and name.attempt is None}
        void = {step for step in steps if step > committed or step in damaged}
        self._read.pop(committed, None)  # it may have been that of an earlier attempt
        commits = self._commits(steps - void)
        staying = kept({step: commit.best for step, commit in commits.items()}, self._policy)
        require_current(self._store, self._home, self._attempt)
        for step in sorted(void | (commits.keys() - staying)):
            self._store.delete(join(self._home, commit_name(step)))
            self._reached("during retention")
        self._read = {step: commits[step] for step in staying}
        named = {name for commit in self._read.values() for name in commit.files}
        unknown = steps - commits.keys() - void  # commits that cannot be read: their files are left
        names = [name for name in names if (what := parsed(name)) is None or what.step not in unknown]
        for name in orphans(names, named, attempt=self._attempt, committed=committed):
            self._store.delete(join(self._home, name))
            self._reached("during sweep")
        self._reached("after sweep")

    def _commits(self, steps: Iterable[int]) -> dict[int, Commit]:
        """Commits of these steps, each read once; an attempt writes a step's commit once and before it is read."""
        found = {}
        for step in steps:
            try:
                found[step] = self._read.get(step) or read_commit(self._store, self._home, step)
            except (NotFoundError, CheckpointVersionError, DamagedCheckpointError):
                continue
        return found
