"""Checkpoints with a commit: every rank's files go to the store behind the training, then one COMMIT.json names them.

Only a committed checkpoint is ever resumed from, and only what has the digests that the commit holds. Nothing is
pickled: safetensors and JSON. Who wrote the pieces does not matter: see `jobs.state.piece`.
"""

from jobs.checkpoints.errors import (
    CheckpointError,
    CheckpointVersionError,
    DamagedCheckpointError,
    OutdatedAttemptError,
    UnfinishedCheckpointError,
)
from jobs.checkpoints.reading import open_checkpoint
from jobs.checkpoints.run_checkpoints import RunCheckpoints

__all__ = [
    "CheckpointError",
    "CheckpointVersionError",
    "DamagedCheckpointError",
    "OutdatedAttemptError",
    "RunCheckpoints",
    "UnfinishedCheckpointError",
    "open_checkpoint",
]
