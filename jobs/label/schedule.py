"""Chains of Ray tasks: the blocks of a trajectory one after the other, trajectories side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.errors import UserError
from jobs.label.tasks import ENVIRONMENT, Done, Trajectory, label_block

_POLL_SECONDS = 0.5


def run_chains(
    trajectories: Sequence[Trajectory],
    pending: Mapping[int, Sequence[range]],
    last: Mapping[int, Done | None],
    stop_requested: Callable[[], bool],
) -> Iterator[Done]:
    """Run every pending block and yield its report as it ends; ends early when a stop is requested.

    Blocks that finished before an error are on the store. Raises what a block raised: the UserError itself
    where it is one. Whatever is still queued is cancelled on the way out.
    """
    task = ray.remote(num_cpus=1, max_retries=3, runtime_env={"env_vars": ENVIRONMENT})(label_block)
    waiting: list[Any] = []
    try:
        for trajectory in trajectories:
            # A task whose argument is another task's result waits for it: the chain needs no code of its own.
            before: Any = last[trajectory.number]
            for frames in pending[trajectory.number]:
                before = task.remote(trajectory, frames, before)
                waiting.append(before)
        while waiting and not stop_requested():
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                yield _result(reference)
    finally:
        for reference in waiting:
            ray.cancel(reference, force=False, recursive=True)


def _result(reference: Any) -> Done:
    try:
        report: Done = ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    return report
