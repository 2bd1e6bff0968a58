"""Stopping in good order: SIGTERM and Ctrl-C become an exception in the main thread, once."""

import ctypes
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Stop(KeyboardInterrupt):
    """The run is asked to end now. Not an Exception: a runner's `except Exception` must not swallow it.

    A KeyboardInterrupt, because that is the one exception Ray lets out of a blocked ray.get (as a new, plain one);
    any other that a signal handler raises there is lost, or comes out as SystemError.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return Stop, self.args


class StopSignals:
    """Context in which SIGTERM and SIGINT raise Stop. Only the first one does: the tidying up is left in peace.

    Once a stop was asked for, whatever exception leaves the block leaves it as Stop.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in self.SIGNALS}
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.requested and error is not None and not isinstance(error, Stop):
            raise Stop from error  # what a stop broke on its way out is part of the stop

    def install(self) -> None:
        """Take the signals again from whoever took them inside, such as ray.init."""
        for number in self.SIGNALS:
            signal.signal(number, self._on_signal)

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self._requested.is_set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested.is_set():
            return
        self._requested.set()
        raise Stop(signal.Signals(number).name)


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def stop_with_parent() -> None:
    """Have this process get SIGTERM when the process that started it ends, even by SIGKILL. Linux only.

    For commands under `make`: a killed make takes nothing along of what it runs.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGTERM)
