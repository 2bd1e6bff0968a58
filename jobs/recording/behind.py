"""Writes to the store that training does not wait for: one thread, in order, tried again while the store is down."""

import threading
import time
from collections.abc import Callable

from cluster.errors import StoreError

RETRY_S = 3.0


class Behind:
    """Runs jobs one after another beside the caller.

    A job with the name of one that still waits takes its place. One that is kept is tried again until it succeeds;
    another that meets a store that is down is dropped. An error that is not the store's is raised by the next `put`.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[Callable[[], object], bool]] = {}
        self._changed = threading.Condition()
        self._busy, self._closed = False, False
        self._thread: threading.Thread | None = None
        self._bug: Exception | None = None
        self._trouble: StoreError | None = None

    @property
    def trouble(self) -> StoreError | None:
        """What the store said to the last write; None where it was well."""
        return self._trouble

    def put(self, name: str, job: Callable[[], object], *, keep: bool = False) -> None:
        """Run `job` soon."""
        with self._changed:
            if self._bug is not None:
                raise self._bug
            self._jobs[name] = (job, keep)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="equi-recorder", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Until all jobs are done, but not while the store is down. Returns whether they are."""
        until = time.monotonic() + seconds
        with self._changed:
            while self._jobs or self._busy:
                left = until - time.monotonic()
                if left <= 0 or self._trouble is not None or self._bug is not None:
                    return False
                self._changed.wait(left)
        return True

    def close(self, seconds: float) -> bool:
        """Give what waits so many seconds more, also to a store that is down; returns whether all was written."""
        until = time.monotonic() + seconds
        with self._changed:
            while (self._jobs or self._busy) and self._bug is None and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            done = not self._jobs and not self._busy
            self._closed = True
            self._changed.notify_all()
        return done

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                name = next(iter(self._jobs))
                job, keep = self._jobs.pop(name)
                self._busy = True
            trouble: StoreError | None = None
            bug: Exception | None = None
            try:
                job()
            except StoreError as error:
                trouble = error
            except Exception as error:
                bug = error
            with self._changed:
                self._busy, self._trouble = False, trouble
                self._bug = self._bug or bug
                if trouble is not None and keep:
                    self._jobs = {name: (job, keep), **{k: v for k, v in self._jobs.items() if k != name}}
                self._changed.notify_all()
                if trouble is not None and not self._closed:
                    self._changed.wait_for(lambda: self._closed, timeout=RETRY_S)
