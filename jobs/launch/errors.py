"""How a run ends when its workers cannot go on."""

from typing import Any


class WorkersFailedError(RuntimeError):
    """Training ended in an error on a worker, and it is not started again."""

    def __init__(self, message: str, rank: int | None) -> None:
        super().__init__(message)
        self.rank = rank

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkersFailedError, (self.args[0], self.rank)
