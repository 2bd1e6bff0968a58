"""Trying again: how often, after which pause and for how long; what is worth it is for the caller to say."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How much trouble a call is given before its error counts."""

    attempts: int = 8
    seconds: float = 120.0  # after the first attempt began, none begins any more
    first: float = 0.1  # seconds before the second attempt; doubles with each one after it
    longest: float = 10.0  # seconds; no pause is longer

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures; between half and all of what the doubling says.

        The jitter is there because a server that asks many readers to slow down must not meet them all again at once.
        """
        return random.uniform(0.5, 1.0) * min(self.longest, self.first * 2.0 ** min(failures - 1, 60))


def persist(
    call: Callable[[], Result],
    worth: Callable[[Exception], bool],
    patience: Patience,
    *,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """What `call` returns, tried again after each error that is `worth` it.

    Raises the last error: the first that is not worth it, or that of the attempt after which patience ends.
    """
    begun = clock()
    failures = 0
    while True:
        try:
            return call()
        except Exception as error:
            failures += 1
            pause = patience.pause(failures)
            over = failures >= patience.attempts or clock() - begun + pause > patience.seconds
            if over or not worth(error):
                raise
        sleep(pause)
