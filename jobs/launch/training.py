"""The part of a worker that needs torch: joining the process group, and training in it."""

from datetime import timedelta
from typing import Any

import torch.distributed as dist

from jobs.launch.member import JOIN_S, Seat
from jobs.metering import training_meter
from jobs.pulse import Pulse
from jobs.stopping import StopNotice
from jobs.worker import Assignment, work
from jobs.world import World

# Small things go over the CPU also where gradients go over NCCL: a flag needs no synchronisation of the device.
BACKENDS = {False: "gloo", True: "cpu:gloo,cuda:nccl"}


def join(seat: Seat, meeting: Any, timeout: float, *, gpu: bool) -> None:
    """Become a rank of the default process group. meeting: the leading rank's own TCPStore, or where it is.

    timeout: seconds after which a rank that waits in a collective raises.
    """
    if isinstance(meeting, tuple):
        address, port = meeting
        waits = timedelta(seconds=max(timeout, JOIN_S))
        meeting = dist.TCPStore(address, port, seat.size, is_master=False, timeout=waits)  # type: ignore[attr-defined]
    dist.init_process_group(
        BACKENDS[gpu], store=meeting, rank=seat.rank, world_size=seat.size, timeout=timedelta(seconds=timeout)
    )


def train(task: dict[str, Any], seat: Seat, pulse: Pulse, stop: StopNotice) -> dict[str, Any]:
    """Train to the end; what the driver wants to know of it, on the leading rank, and {} on the others."""
    assignment = Assignment(**task)
    world = World(seat.rank, seat.size, pulse)
    outcome = work(assignment, world, emit=training_meter(assignment.run_id), rank_on_node=seat.rank_on_node, stop=stop)
    if not world.leads:
        return {}
    return {
        "steps": outcome.step,
        "best_step": outcome.best_step,
        "best_value": outcome.best_value,
        "metrics": outcome.metrics,
        "skipped": outcome.skipped,
        "stopped_early": outcome.stopped_early,
        "data_wait": outcome.data_wait,
    }
