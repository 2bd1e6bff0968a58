"""Ray tasks: the blocks of a trajectory one after the other, trajectories side by side; chunks in any order."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import ray

from jobs.ingest.schedule import result_of
from jobs.ingest.staging import Index
from jobs.label.given import Work, label_chunk
from jobs.label.sources import Given
from jobs.label.tasks import ENVIRONMENT, Done, Trajectory, label_block

_POLL_SECONDS = 0.5
_WAITING = 16  # chunks beyond one a CPU that are handed over, so that no worker waits and an autoscaler sees demand


def run_chains(
    trajectories: Sequence[Trajectory],
    pending: Mapping[int, Sequence[range]],
    last: Mapping[int, Done | None],
    stop_requested: Callable[[], bool],
) -> Iterator[Done]:
    """Run every pending block and yield its report as it ends; ends early when a stop is requested.

    Blocks that finished before an error are on the store. Raises what a block raised: the UserError itself
    where it is one. Whatever is still under way is cancelled on the way out.
    """
    task = ray.remote(num_cpus=1, max_retries=3, runtime_env={"env_vars": ENVIRONMENT})(label_block)
    chains = {trajectory.number: iter(pending[trajectory.number]) for trajectory in trajectories}
    described = {trajectory.number: trajectory for trajectory in trajectories}
    running: dict[Any, int] = {}

    def advance(number: int, before: Done | None) -> None:
        frames = next(chains[number], None)
        if frames is not None:
            running[task.remote(described[number], frames, before)] = number

    try:
        # One block of each chain at a time. Whole chains of tasks that wait for each other would need no code here,
        # but when they are cancelled Ray 2.60 may end this process ("Tried to complete task that was not pending").
        for number in chains:
            advance(number, last[number])
        while running and not stop_requested():
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                number = running.pop(reference)
                report: Done = result_of(reference)
                advance(number, report)
                yield report
    finally:
        for reference in running:
            ray.cancel(reference, force=False, recursive=True)


def run_chunks(
    work: Work, pending: Iterable[tuple[int, Sequence[Given]]], stop_requested: Callable[[], bool]
) -> Iterator[tuple[int, Index]]:
    """Label every pending chunk and yield its number and index as it ends; ends early when a stop is requested.

    Chunks are read from `pending` only as fast as they are worked off. Errors and what is under way: as `run_chains`.
    """
    task = ray.remote(num_cpus=1, max_retries=3, runtime_env={"env_vars": ENVIRONMENT})(label_chunk)
    chunks = iter(pending)
    running: list[Any] = []
    try:
        while not stop_requested():
            room = int(ray.cluster_resources().get("CPU", 1)) + _WAITING - len(running)
            running += [task.remote(work, number, given) for number, given in islice(chunks, room)]
            if not running:
                break
            ready, running = ray.wait(running, num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                yield result_of(reference)
    finally:
        for reference in running:
            ray.cancel(reference, force=False, recursive=True)
