"""What runs in each worker process: Ray Train's function, and what is settled in the main thread before it."""

import importlib
import os
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jobs.errors import PreemptedError, TrainingDivergedError
from jobs.pulse import Pulse
from jobs.stopping import StopNotice

TOLD_S = 300.0  # the driver may still be looking up what the spec names
LAST_WORDS_S = 60.0  # of the leading rank, which writes what happened

if TYPE_CHECKING:
    from jobs.launch.board import Board

# One process, one notice: signals can be heard from the main thread only, and training is in another one.
_NOTICES: list[StopNotice] = []


class RankFailedError(RuntimeError):
    """A rank did not come to its end. In words, so that it can always travel."""

    def __init__(self, kind: str, bases: tuple[str, ...], text: str, trace: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.bases, self.text, self.trace = kind, bases, text, trace

    def __reduce__(self) -> tuple[Any, ...]:
        return RankFailedError, (self.kind, self.bases, self.text, self.trace)


def settle(grace: float) -> None:
    """Take SIGTERM as a notice from now on, and import torch. Called in the main thread of the worker's process."""
    notice = StopNotice(grace)
    notice.listen()
    _NOTICES.append(notice)
    importlib.import_module("torch.distributed")  # on all at once; else all would wait until the first has done it


def run(orders: dict[str, str]) -> dict[str, Any]:
    """Train as the rank that Ray Train made this process; the outcome on the leading rank, {} on the others.

    orders: `board`, the name of the board on which the driver says what to do. Raises RankFailedError.
    """
    import ray
    import ray.train

    from jobs.launch.board import Board, Station

    context, board = ray.train.get_context(), Board(orders["board"])
    rank, size, on_node = context.get_world_rank(), context.get_world_size(), context.get_local_rank()
    os.environ |= {  # as torchrun would: libraries look there
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(on_node),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
    }
    pulse, notice = Pulse(), _NOTICES[-1]
    pulse.passed("process group")
    try:
        node, host = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()
        with Station(board, rank, node, host, pulse, notice):
            return _train(board, rank, size, on_node, pulse, notice)
    except BaseException as error:  # SystemExit of a library is an error too
        bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
        raise RankFailedError(type(error).__name__, bases, str(error), traceback.format_exc()) from None


def _train(board: "Board", rank: int, size: int, on_node: int, pulse: Pulse, notice: StopNotice) -> dict[str, Any]:
    _prepare(board.await_value("prepare", TOLD_S))
    pulse.passed("imports")
    from jobs.launch.training import train

    try:
        return train(board.await_value("task", TOLD_S), rank, size, on_node, pulse, notice)
    except (PreemptedError, TrainingDivergedError):  # on all ranks; Ray Train ends the others when one has failed
        if rank:
            with suppress(TimeoutError):
                board.await_value("left", LAST_WORDS_S)
        raise
    finally:
        if not rank:
            board.put("left", True)


def _prepare(modules: list[str]) -> None:
    """Import what training will need, while the driver still looks things up."""
    if "deepspeed" in modules:  # it reads its settings when it is imported; prepared for CPUs only
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        os.environ.setdefault("DS_LOG_LEVEL", "ERROR")
    for name in modules:
        importlib.import_module(name)
