"""Tasks of an ingest, many at a time on Ray, or one after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import RayTaskError

from cluster.errors import UserError

_POLL_SECONDS = 0.5
_RETRIES = 3  # of a task whose worker died; reading and writing are both repeatable


class Execute(Protocol):
    """Calls `function` with each set of arguments; yields number and result as they come, until a stop is asked for.

    Raises what a call raised.
    """

    def __call__(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], stop_requested: Callable[[], bool]
    ) -> Iterator[tuple[int, Any]]: ...


def on_ray(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], stop_requested: Callable[[], bool]
) -> Iterator[tuple[int, Any]]:
    """One Ray task of one CPU a call, in no particular order. Whatever is under way is cancelled on the way out."""
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
    # Twice what can run: enough waits that an autoscaler sees it, and not so much that a stop takes long to cancel.
    width = max(4, 2 * int(ray.cluster_resources().get("CPU", 1)))
    waiting = iter(enumerate(arguments))
    running: dict[Any, int] = {}

    def fill() -> None:
        while len(running) < width and (following := next(waiting, None)) is not None:
            number, each = following
            running[task.remote(*each)] = number

    try:
        fill()
        while running and not stop_requested():
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                number = running.pop(reference)
                result = result_of(reference)
                fill()
                yield number, result
    finally:
        for reference in running:
            ray.cancel(reference, force=False, recursive=True)


def in_turn(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], stop_requested: Callable[[], bool]
) -> Iterator[tuple[int, Any]]:
    """One call after the other in this process."""
    for number, each in enumerate(arguments):
        if stop_requested():
            return
        yield number, function(*each)


def result_of(reference: Any) -> Any:
    """What a task returned. Raises what it raised: a UserError as itself, without Ray's wrapping."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
