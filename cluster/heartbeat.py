"""The driver's sign of life, and its ear: every 5 s one write, and one look at what the record asks for."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from cluster.errors import UserError
from cluster.runs import key, load_run
from cluster.store import Store, encode_json

EVERY_S = 5.0


class Heartbeat:
    """Beats in a thread while the block lasts; `on_stop` is called once when this attempt should end.

    That is when the record says `stop_requested`, or when a later attempt has taken the run over.
    """

    def __init__(
        self, store: Store, run_id: str, attempt: int, *, on_stop: Callable[[], None], every_s: float = EVERY_S
    ) -> None:
        self._store, self._run_id, self._attempt = store, run_id, attempt
        self._on_stop, self._every_s = on_stop, every_s
        self._over = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=self._every_s)

    def _run(self) -> None:
        while True:
            try:
                self._beat()
            except UserError as error:  # the store is away for a while: the run itself may well go on
                sys.stderr.write(f"heartbeat: {error.message}\n")
            if self._over.wait(self._every_s):
                return

    def _beat(self) -> None:
        beat = {"time": time.time(), "attempt": self._attempt, "pid": os.getpid()}
        self._store.write(key(self._run_id, "heartbeat.json"), encode_json(beat))
        record = load_run(self._store, self._run_id)
        if (record.stop_requested or record.attempt != self._attempt) and not self._told:
            self._told = True
            self._on_stop()


def stop_this_process() -> None:
    """What `on_stop` does in a driver: as if somebody had sent SIGTERM, so that there is one way to stop."""
    os.kill(os.getpid(), signal.SIGTERM)
