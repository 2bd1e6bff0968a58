"""Errors a user can put right: shown without a traceback, exit code 2. Every one survives pickling."""

from typing import Any


class UserError(Exception):
    """What was wrong (`message`), what is allowed, and what to do next (`hint`)."""

    exit_code = 2

    def __init__(self, message: str, *, allowed: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.allowed, self.hint = message, allowed, hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))

    def __str__(self) -> str:
        lines = [self.message]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


def _rebuild(kind: type[UserError], args: tuple[Any, ...], state: dict[str, Any]) -> UserError:
    """Make the error again without calling its constructor, whose signature is its own business."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class StoreError(UserError):
    """The object store cannot be read or written."""


class DamagedDataError(StoreError):
    """A file of a dataset is not what was published: its digest differs, or it cannot be decoded."""


class OutOfRangeError(StoreError):
    """An object has fewer bytes than were asked for."""


class PreconditionFailedError(StoreError):
    """A conditional write lost: the object exists already, or is not what the writer had read."""


class NotFoundError(UserError):
    """A dataset, run, model or endpoint that is named does not exist."""


class ConflictError(UserError):
    """Something of that name exists already and is not what was about to be written."""


class ClusterError(UserError):
    """The Ray cluster cannot be reached, refuses the token, or can never give what is asked for."""
