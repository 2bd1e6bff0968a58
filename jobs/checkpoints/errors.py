"""What can be wrong with a checkpoint, said so that somebody can put it right."""

from cluster.errors import UserError


class CheckpointError(UserError):
    """A checkpoint cannot be written or read."""


class UnfinishedCheckpointError(CheckpointError):
    """A rank's part, or the commit, has not come within patience; the checkpoint before it is what counts."""


class DamagedCheckpointError(CheckpointError):
    """A file of a committed checkpoint is missing, or is not what was committed."""


class CheckpointVersionError(CheckpointError):
    """A checkpoint is of a format that this version of the code does not read."""


class OutdatedAttemptError(CheckpointError):
    """Workers of a later attempt have taken over the run; this one must not write any more."""
