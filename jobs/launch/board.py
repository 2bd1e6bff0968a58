"""Where the driver and its workers talk beside Ray Train: what to do, who is where, whether all should save and end.

The key-value table of Ray's head: no port of its own, and behind Ray's token. Workers write where they are every
second, whatever their training does, and read whether they were asked to stop. Words of our own processes, as JSON.
"""

import json
import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from jobs.pulse import Pulse, Reading
from jobs.stopping import StopNotice

BEAT_S = 1.0
DEAF_BEATS = 600  # in a row without the head; a worker whose cluster has gone ends otherwise
SOON = "soon"  # save a checkpoint and end
SPACE = b"equi-train"


class Board:
    """The table of one start of the workers of a run, known by its name wherever the cluster is."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def new(cls, run_id: str) -> "Board":
        """An empty one. Those that a killed driver of this run has left are cleared."""
        cls(run_id).clear()
        return cls(f"{run_id}/{uuid.uuid4().hex}")

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
            time.sleep(0.05)
        return found

    def places(self) -> str | None:
        """The placement group that Ray Train has taken for the workers, in hexadecimal digits."""
        found: str | None = self.get("places")
        return found

    def clear(self) -> None:
        """Forget all of it."""
        _internal_kv_del(f"{self.name}/".encode(), del_by_prefix=True, namespace=SPACE)


class Listener:
    """The driver's ear: what each rank said last, and when."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._heard: dict[int, tuple[float, dict[str, Any]]] = {}
        self._listened = 0.0

    def listen(self, size: int) -> None:
        """Read what the ranks have said meanwhile; nothing while the head does not answer."""
        with suppress(RayError):
            for rank in range(size):
                said = self._board.get(f"pulse/{rank}")
                if said is not None and said["number"] != self._said(rank).get("number"):
                    self._heard[rank] = (time.monotonic(), said)
            self._listened = time.monotonic()

    def silence(self, rank: int) -> float:
        """Seconds from the rank's last word to when it was last listened to.

        0 where it never was heard, for it may still be starting, and where it has said its last.
        """
        if rank not in self._heard or self._said(rank)["last"]:
            return 0.0
        return max(0.0, self._listened - self._heard[rank][0])

    def reading(self, rank: int) -> Reading | None:
        """What the rank said last."""
        return Reading(**self._said(rank)["reading"]) if rank in self._heard else None

    def process(self, rank: int) -> str:
        """Where the rank's process is, for one who wants to look at it."""
        return str(self._said(rank).get("process", ""))

    @property
    def nodes(self) -> frozenset[str]:
        """Ids of the nodes of the ranks that were heard."""
        return frozenset(said["node"] for _, said in self._heard.values())

    def _said(self, rank: int) -> dict[str, Any]:
        return self._heard[rank][1] if rank in self._heard else {}


class Station:
    """A worker's side: a thread that says where its training is, and hears the driver.

    node: id of its node. host: address of it.
    """

    def __init__(self, board: Board, rank: int, node: str, host: str, pulse: Pulse, stop: StopNotice) -> None:
        self._board, self._rank, self._pulse, self._stop = board, rank, pulse, stop
        self._here = {"node": node, "process": f"pid {os.getpid()} on {host}"}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="Station", daemon=True)

    def __enter__(self) -> "Station":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(timeout=5 * BEAT_S)

    def _beat(self) -> None:
        number = deaf = 0
        while deaf < DEAF_BEATS:
            last = self._over.is_set()
            number += 1
            said = {"number": number, **self._here, "reading": asdict(self._pulse.reading()), "last": last}
            try:
                self._board.put(f"pulse/{self._rank}", said)
                if self._board.get("stop") == SOON:
                    self._stop.give()
                deaf = 0
            except RayError:  # the head may come back
                deaf += 1
            if last:
                return
            self._over.wait(BEAT_S)
