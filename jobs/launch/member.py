"""What runs in each worker process: a Ray actor that trains in one thread and answers the driver in another.

Nothing heavy is imported before `prepare`, so that the actor answers as soon as its process is there.
"""

import importlib
import os
import socket
import traceback
from dataclasses import dataclass
from typing import Any

from jobs.pulse import Pulse, Reading
from jobs.stopping import StopNotice

JOIN_S = 300.0  # seconds for all processes to find each other


@dataclass(frozen=True)
class Home:
    """Where a member is."""

    node: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seat:
    """A member's place among the others."""

    rank: int
    size: int
    rank_on_node: int
    size_on_node: int
    visible_gpus: str = ""  # of all members on the node; a member's own is at the index of its rank there


@dataclass(frozen=True)
class Ended:
    """How a member's training ended: with an outcome, or with an error. Plain data, so that it can always travel."""

    outcome: dict[str, Any] | None = None
    kind: str = ""
    bases: tuple[str, ...] = ()
    text: str = ""
    trace: str = ""
    reading: Reading | None = None


class TrainWorker:
    """The actor. Its constructor is in the main thread of its process; the rest is in threads of Ray's."""

    def __init__(self, grace: float) -> None:
        self._pulse = Pulse()
        self._store: Any = None
        self._pulse.passed("process")
        self._stop = StopNotice(grace)
        self._stop.listen()

    def home(self) -> Home:
        """Its node and its GPUs."""
        import ray

        return Home(ray.get_runtime_context().get_node_id(), tuple(str(number) for number in ray.get_gpu_ids()))

    def meet(self, address: str, size: int, timeout: float) -> int:
        """The leading rank opens the place where all meet, on that address of its node only; returns its port."""
        from datetime import timedelta

        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        listener = socket.create_server((address, 0))
        port = int(listener.getsockname()[1])
        self._store = TCPStore(
            address,
            port,
            size,
            is_master=True,
            timeout=timedelta(seconds=max(timeout, JOIN_S)),
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
        return port

    def train(self, task: dict[str, Any], seat: Seat, address: str, port: int, timeout: float) -> Ended:
        """Everything until the end of training. Raises nothing: an error is told in words."""
        try:
            self._settle(seat, address, port)
            from jobs.launch.training import join, train

            self._pulse.passed("imports")
            join(seat, self._store or (address, port), timeout, gpu=bool(seat.visible_gpus))
            self._pulse.passed("process group")
            return Ended(outcome=train(task, seat, self._pulse, self._stop), reading=self._pulse.reading())
        except BaseException as error:  # SystemExit of a library is an error too
            return Ended(
                kind=type(error).__name__,
                bases=tuple(base.__name__ for base in type(error).__mro__[1:-1]),
                text=str(error),
                trace=traceback.format_exc(),
                reading=self._pulse.reading(),
            )

    def _settle(self, seat: Seat, address: str, port: int) -> None:
        """The environment that torchrun would give: libraries look there."""
        os.environ |= {
            "RANK": str(seat.rank),
            "WORLD_SIZE": str(seat.size),
            "LOCAL_RANK": str(seat.rank_on_node),
            "LOCAL_WORLD_SIZE": str(seat.size_on_node),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
        }
        if address.startswith("127."):  # all on one machine: gloo need not listen on its other interfaces either
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        if seat.visible_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = seat.visible_gpus

    def prepare(self, modules: tuple[str, ...]) -> None:
        """Import what training will need, while the driver still looks things up."""
        if "deepspeed" in modules:  # it reads its settings when it is imported; prepared for CPUs only
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
            os.environ.setdefault("DS_LOG_LEVEL", "ERROR")
        for name in modules:
            importlib.import_module(name)
        self._pulse.passed("imports")

    def reading(self) -> Reading:
        """Where the training is. Answered whatever it does."""
        return self._pulse.reading()

    def stop(self) -> None:
        """Ask the training to save a checkpoint and end."""
        self._stop.give()

    def process(self) -> tuple[str, int]:
        """(host, process id)."""
        return socket.gethostname(), os.getpid()
