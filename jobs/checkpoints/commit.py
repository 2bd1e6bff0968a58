"""COMMIT.json: the one object that makes a checkpoint of the files around it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.errors import NotFoundError, PreconditionFailedError
from cluster.store import Store
from cluster.store.keys import join
from jobs.checkpoints.errors import CheckpointVersionError, DamagedCheckpointError, OutdatedAttemptError
from jobs.checkpoints.layout import commit_name, parsed

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Stored:
    """An object that a commit names."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Commit:
    """A committed checkpoint. Names are below the home of the run's checkpoints; `files` holds the indices as well."""

    step: int
    attempt: int
    world_size: int
    best: bool
    files: Mapping[str, Stored]
    indices: tuple[str, ...]  # by rank
    slots: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    notes: Mapping[str, Any]
    model: Mapping[str, Any] | None = None  # what `equi export` makes a model of

    def encoded(self) -> bytes:
        """As JSON; of the notes NaN and infinity stay what they are, as Python writes and reads them."""
        document = {
            "format_version": FORMAT_VERSION,
            "step": self.step,
            "attempt": self.attempt,
            "world_size": self.world_size,
            "best": self.best,
            "files": {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in self.files.items()},
            "indices": list(self.indices),
            "slots": list(self.slots),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "notes": dict(self.notes),
            "model": self.model,
        }
        return json.dumps(document, indent=1).encode() + b"\n"


def committed_steps(store: Store, home: str) -> list[int]:
    """Steps of all committed checkpoints, ascending."""
    names = [parsed(key.removeprefix(f"{home}/")) for key in store.list(home)]
    return sorted(name.step for name in names if name and name.attempt is None)


def read_commit(store: Store, home: str, step: int) -> Commit:
    """The commit of a step.

    Raises NotFoundError; CheckpointVersionError for another format; DamagedCheckpointError where it is no commit.
    """
    return decoded(store.read(join(home, commit_name(step))), join(home, commit_name(step)))


def decoded(data: bytes, key: str) -> Commit:
    """The commit in `data`; raises as `read_commit`."""
    try:
        document = json.loads(data)
        version = document["format_version"]
        if version == FORMAT_VERSION:
            return Commit(
                document["step"],
                document["attempt"],
                document["world_size"],
                document["best"],
                {name: Stored(file["sha256"], file["bytes"]) for name, file in document["files"].items()},
                tuple(document["indices"]),
                tuple(document["slots"]),
                {name: tuple(shape) for name, shape in document["shapes"].items()},
                document["notes"],
                document["model"],
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{key} is damaged: {type(error).__name__}: {error}") from None
    if version == 1:
        raise CheckpointVersionError(
            f"{key} is of format version 1: it holds pickles, which nothing here reads any more",
            allowed=f"format version {FORMAT_VERSION}",
            hint="go on with that run under the release that began it, or submit its spec as a new run",
        )
    raise CheckpointVersionError(
        f"{key} is of format version {version!r}, which is newer than this release",
        allowed=f"format version {FORMAT_VERSION}",
        hint="update equimodels, or go on with the run where it was begun",
    )


def write_commit(store: Store, home: str, commit: Commit) -> None:
    """Make the checkpoint count: create its COMMIT.json.

    One that is there already is ours, and the answer was lost; or a later attempt's, and we are outdated; or an earlier
    attempt's: ours takes its place, as files of that one may have been swept. Raises OutdatedAttemptError.
    """
    key = join(home, commit_name(commit.step))
    data = commit.encoded()
    while True:
        try:
            store.write(key, data, if_absent=True)
            return
        except PreconditionFailedError:
            pass
        try:
            found, etag = store.read_tagged(key)
            attempt = _attempt(found)
            if attempt == commit.attempt:
                return
            if attempt > commit.attempt:
                raise OutdatedAttemptError(f"attempt {attempt} has committed step {commit.step} already")
            store.write(key, data, if_match=etag)
            return
        except (NotFoundError, PreconditionFailedError):  # others are faster; who they are decides
            continue


def _attempt(data: bytes) -> int:
    """The attempt that made a commit; 0, which is before all others, where it cannot be told."""
    try:
        return int(json.loads(data)["attempt"])
    except (ValueError, KeyError, TypeError):
        return 0
