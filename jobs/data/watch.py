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
        self._since, self._inside = time.perf_counter(), False

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
        """What runs inside waits for a batch; the first one since `step_done` begins a step."""
        begun = time.perf_counter()
        if not self._inside:
            self._since, self._inside = begun, True
        yield
        if self._warm:
            self._waited += time.perf_counter() - begun

    def step_done(self) -> float:
        """The step is over; the seconds it took, with its waiting."""
        took = time.perf_counter() - self._since
        if self._warm:
            self._spent += took
        self._warm, self._inside = True, False
        return took
