"""Work behind the training: one piece at a time, whose error is raised when the next is begun."""

import threading
from collections.abc import Callable


class Background:
    """A thread for one job after the other. It does not keep the process alive: what it does is done again if lost."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Do `job` now, in the background. Nothing else may be under way."""

        def work() -> None:
            try:
                job()
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=work, name=self._name, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the job under way is done; raises its error, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if (error := self._error) is not None:
            self._error = None
            raise error
