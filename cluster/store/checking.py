"""What a check of a store is: a sentence that must be true, what breaks where it is not, and a way to find out."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store.interface import Store

RACERS = 8
Run = Callable[[Store, str], str | None]


@dataclass(frozen=True)
class Check:
    """Call it with a store and an empty folder of it.

    Returns a note for the user or None. Raises `StoreError` saying what the store cannot do.
    """

    name: str
    meaning: str  # what must be true
    breaks: str  # what happens to the user where it is not
    run: Run

    def __call__(self, store: Store, folder: str) -> str | None:
        return self.run(store, folder)


def check(breaks: str) -> Callable[[Run], Check]:
    """Make a check of a function: its name is the check's, its docstring the meaning."""

    def make(run: Run) -> Check:
        return Check(run.__name__.replace("_", " "), (run.__doc__ or "").strip(), breaks, run)

    return make


def demand(condition: bool, problem: str) -> None:
    """Raise `StoreError` unless the condition holds."""
    if not condition:
        raise StoreError(problem)


def refused(action: Callable[[], object]) -> bool:
    """Whether a conditional write lost."""
    try:
        action()
    except PreconditionFailedError:
        return True
    return False


def missing(action: Callable[[], object]) -> bool:
    """Whether the object was not found."""
    try:
        action()
    except NotFoundError:
        return True
    return False


def race(write: Callable[[int], object]) -> list[int]:
    """Call `write` from many threads at once; returns the numbers of those that were not refused."""
    start = threading.Barrier(RACERS)

    def run(number: int) -> bool:
        start.wait()
        return not refused(lambda: write(number))

    with ThreadPoolExecutor(RACERS) as pool:
        return [number for number, won in enumerate(pool.map(run, range(RACERS))) if won]


def body(number: int) -> bytes:
    """What writer `number` writes. Distinct: two equal bodies have one etag and could not be told apart."""
    return f"writer {number}".encode()
