"""Training on the workers of a Ray cluster: their start, their watch, their restarts, and what a person sees."""

from jobs.launch.errors import WorkersFailedError
from jobs.launch.run import launch

__all__ = ["WorkersFailedError", "launch"]
