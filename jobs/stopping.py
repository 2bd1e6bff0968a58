"""A worker that is asked to end soon: by SIGTERM, or by the driver.

The training is in another thread than Python's signal handlers, and may be deep inside a collective, where no handler
runs. So SIGTERM is heard by its wake-up file descriptor: the C part of the handler writes a byte at once, whatever the
interpreter does. Ray's own handler, which ends the process, is replaced.
"""

import os
import signal
import threading

ENDED_BY_SIGTERM = 128 + signal.SIGTERM


class StopNotice:
    """Whether this process was asked to end. `listen` must be called from the main thread."""

    def __init__(self, grace: float) -> None:
        self._asked, self._grace = threading.Event(), grace

    def __call__(self) -> bool:
        """What the training loop asks after every step."""
        return self._asked.is_set()

    def give(self) -> None:
        """The notice, from whomever."""
        self._asked.set()

    def listen(self) -> None:
        """Take SIGTERM as the notice. After the grace, or at a second SIGTERM, the process ends itself."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(reading,), name="StopNotice", daemon=True).start()

    def _hear(self, reading: int) -> None:
        told = False  # by SIGTERM; what the driver has asked for before does not count
        while number := os.read(reading, 1):
            if number[0] != signal.SIGTERM:
                continue
            if told:
                os._exit(ENDED_BY_SIGTERM)
            told = True
            self.give()
            timer = threading.Timer(self._grace, os._exit, (ENDED_BY_SIGTERM,))
            timer.daemon = True
            timer.start()
