"""How long training waits for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class DataWatch:
    """The share of the time of steps that was spent waiting for their batches.

    The very first step is left out: it waits for the first rows to be read, whatever the reader does.
    """

    def __init__(self) -> None:
        self._warm, self._waited, self._spent = False, 0.0, 0.0
        self._before = 0.0, 0.0  # waited and spent in the stretches that are over
        self._since = time.perf_counter()

    @property
    def share(self) -> float:
        """From 0 to 1, of the steps since the last `begin`; 0 where there are none."""
        return self._waited / self._spent if self._spent else 0.0

    @property
    def share_of_all(self) -> float:
        """The share of all steps."""
        waited, spent = self._before[0] + self._waited, self._before[1] + self._spent
        return waited / spent if spent else 0.0

    def begin(self) -> None:
        """Let `share` begin anew with the next step."""
        self._before = self._before[0] + self._waited, self._before[1] + self._spent
        self._waited = self._spent = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A step begins here; what runs inside waits for its batch."""
        self._since = time.perf_counter()
        yield
        if self._warm:
            self._waited += time.perf_counter() - self._since

    def step_done(self) -> None:
        """The step that began with the last `waiting` is over."""
        if self._warm:
            self._spent += time.perf_counter() - self._since
        self._warm = True
