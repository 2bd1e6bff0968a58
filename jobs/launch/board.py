"""Where the driver and its workers talk beside Ray Train: what to do, who is where, whether all should save and end.

The key-value table of Ray's head: no port of its own, and behind Ray's token. Workers write where they are every
second, whatever their training does, and read whether they were asked to stop. Words of our own processes, as JSON.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from dataclasses import asdict
from typing import Any

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from jobs.pulse import Pulse, Reading
from jobs.stopping import StopNotice

BEAT_S = 1.0
SOON, NOW = "soon", "now"  # save a checkpoint and end; end
SPACE = b"equi-train"


class Board:
    """The table of one start of the workers. Pickles: what is written by one process is read by the others."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or uuid.uuid4().hex

    def put(self, key: str, value: Any) -> None:
        """Write a value that JSON can hold."""
        _internal_kv_put(f"{self.name}/{key}".encode(), json.dumps(value).encode(), True, namespace=SPACE)

    def get(self, key: str) -> Any:
        """What is written there, or None."""
        found = _internal_kv_get(f"{self.name}/{key}".encode(), namespace=SPACE)
        return None if found is None else json.loads(found)

    def await_value(self, key: str, seconds: float) -> Any:
        """What is written there, as soon as it is. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while (found := self.get(key)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the driver has not said {key!r} within {seconds:.0f} s")
            time.sleep(0.02)
        return found

    def clear(self) -> None:
        """Forget all of it."""
        _internal_kv_del(f"{self.name}/".encode(), del_by_prefix=True, namespace=SPACE)


class Listener:
    """The driver's ear: what each rank said last, and when."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._heard: dict[int, tuple[float, int, Reading, str]] = {}

    def listen(self, size: int) -> None:
        """Read what the ranks have said meanwhile."""
        for rank in range(size):
            said = self._board.get(f"pulse/{rank}")
            if said is None or (rank in self._heard and self._heard[rank][1] == said["number"]):
                continue
            self._heard[rank] = (time.monotonic(), said["number"], Reading(**said["reading"]), said["node"])

    def silence(self, rank: int) -> float:
        """Seconds since the rank was last heard; 0 where it never was, for it may still be starting."""
        return time.monotonic() - self._heard[rank][0] if rank in self._heard else 0.0

    def reading(self, rank: int) -> Reading | None:
        """What the rank said last."""
        return self._heard[rank][2] if rank in self._heard else None

    @property
    def nodes(self) -> frozenset[str]:
        """Ids of the nodes of the ranks that were heard."""
        return frozenset(node for *_, node in self._heard.values())


class Station:
    """A worker's side: a thread that says where its training is, and hears the driver."""

    def __init__(self, board: Board, rank: int, node: str, pulse: Pulse, stop: StopNotice) -> None:
        self._board, self._rank, self._node, self._pulse, self._stop = board, rank, node, pulse, stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="Station", daemon=True)

    def __enter__(self) -> "Station":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(timeout=5 * BEAT_S)

    def _beat(self) -> None:
        number = 0
        with contextlib.suppress(Exception):  # the head has gone, and takes the workers along
            while True:
                last = self._over.is_set()
                number += 1
                said = {"number": number, "node": self._node, "reading": asdict(self._pulse.reading())}
                self._board.put(f"pulse/{self._rank}", said)
                if last:
                    return
                asked = self._board.get("stop")
                if asked == NOW:
                    os._exit(1)
                if asked == SOON:
                    self._stop.give()
                self._over.wait(BEAT_S)
