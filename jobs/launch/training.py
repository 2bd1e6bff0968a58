"""The part of a worker that needs torch: training as a rank."""

from typing import Any

from jobs.metering import training_meter
from jobs.pulse import Pulse
from jobs.stopping import StopNotice
from jobs.worker import Assignment, work
from jobs.world import World


def train(
    task: dict[str, Any], rank: int, size: int, rank_on_node: int, pulse: Pulse, stop: StopNotice
) -> dict[str, Any]:
    """Train to the end; what the driver wants to know of it, on the leading rank, and {} on the others."""
    assignment = Assignment(**task)
    world = World(rank, size, pulse)
    outcome = work(assignment, world, emit=training_meter(assignment.run_id), rank_on_node=rank_on_node, stop=stop)
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
