"""Checkpoints with a commit: every rank's files go to the store, then one COMMIT.json names them all.

Only a committed checkpoint is ever resumed from, and only files whose digests the commit holds are read. A death
before the commit leaves files that nothing names; they are swept when the next checkpoint is committed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.errors import NotFoundError
from cluster.store import Store
from jobs.world import World

COMMIT = "COMMIT.json"
FORMAT_VERSION = 1


class RunCheckpoints:
    """The checkpoints of one run on the store, below `runs/<id>/checkpoints/<step>/`."""

    def __init__(self, store: Store, run_id: str, world: World, *, keep_last: int) -> None:
        self._store, self._world, self._keep_last = store, world, keep_last
        self._home = f"runs/{run_id}/checkpoints"

    def newest(self, folder: Path) -> Mapping[str, Any] | None:
        """Fetch the newest committed checkpoint into `folder`, checked against its digests; None if there is none."""
        steps = self.committed()
        if not steps:
            return None
        prefix = f"{self._home}/{steps[-1]:08d}"
        commit: dict[str, Any] = json.loads(self._store.read(f"{prefix}/{COMMIT}"))
        if commit["world_size"] != self._world.size:
            raise ValueError(
                f"checkpoint {steps[-1]} was written by {commit['world_size']} workers and cannot be resumed by "
                f"{self._world.size}; set resources.workers back to {commit['world_size']}"
            )
        for name, digest in commit["files"].items():
            data = self._store.read(f"{prefix}/{name}")
            if hashlib.sha256(data).hexdigest() != digest:
                raise ValueError(f"{prefix}/{name} is damaged: its sha256 is not the one in {COMMIT}")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        notes: Mapping[str, Any] = commit["notes"]
        return notes

    def commit(self, step: int, folder: Path, notes: Mapping[str, Any]) -> None:
        """Upload this rank's files, wait for all ranks, and let the leading rank name them in COMMIT.json."""
        prefix = f"{self._home}/{step:08d}"
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".py":  # DeepSpeed adds scripts of its own
                data = path.read_bytes()
                name = path.relative_to(folder).as_posix()
                # Every rank of DeepSpeed writes its `latest`; they are alike, so the last writer is as good as any.
                self._store.write(f"{prefix}/{name}", data)
                files[name] = hashlib.sha256(data).hexdigest()
        named: dict[str, str] = {}
        for part in self._world.gather(files):
            named |= part
        if self._world.leads:
            commit = {
                "format_version": FORMAT_VERSION,
                "world_size": self._world.size,
                "files": named,
                "notes": dict(notes),
            }
            self._store.write(f"{prefix}/{COMMIT}", json.dumps(commit, indent=1).encode())
            self._sweep()
        self._world.gather(None)  # nobody goes on before the commit is there

    def committed(self) -> list[int]:
        """Steps of all committed checkpoints, ascending."""
        keys = self._store.list(f"{self._home}/")
        return sorted(int(key.split("/")[-2]) for key in keys if key.endswith(f"/{COMMIT}"))

    def _sweep(self) -> None:
        """Delete what no commit names and all but the newest committed checkpoints; the commit goes first."""
        kept = set(self.committed()[-self._keep_last :])
        keys = self._store.list(f"{self._home}/")
        doomed = [key for key in keys if int(key.removeprefix(f"{self._home}/").split("/")[0]) not in kept]
        for key in sorted(doomed, key=lambda key: not key.endswith(COMMIT)):
            try:
                self._store.delete(key)
            except NotFoundError:
                continue
