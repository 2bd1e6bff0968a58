"""One Ray task: a block of one trajectory, its chunk written to the store before the task returns."""

from dataclasses import dataclass

from cluster.store import open_store
from jobs.label.calculators import find_method
from jobs.label.chunks import Chunk, chunk_key, encode
from jobs.label.geometry import Geometry
from jobs.label.md import State, check_first_geometry, first_state, run_block, trajectory_seed
from jobs.spec.frozen import Component
from jobs.spec.label import MolecularDynamics

# One thread a task: the trajectories are the parallelism. Set for the worker process before anything loads
# tblite, because OpenMP reads it once.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Trajectory:
    """All that a block needs to know about its trajectory."""

    store: str
    run: str
    digest: str
    number: int
    seed: int
    start: Geometry
    method: Component
    settings: MolecularDynamics


@dataclass(frozen=True)
class Done:
    """What a block reports: where to go on, and how many frames it gave."""

    trajectory: int
    state: State
    kept: int
    failed: int


def label_block(trajectory: Trajectory, frames: range, before: Done | None) -> Done:
    """Run the block of these frames from where `before` ended (None: from the first geometry).

    Raises UserError where the method cannot compute the first geometry or refuses its settings.
    """
    method = find_method(trajectory.method)
    params = method.params_for(trajectory.start, trajectory.method.params)
    if before is None:
        check_first_geometry(trajectory.start, method.calculator(params))
        state = first_state(trajectory.start, trajectory.settings, trajectory_seed(trajectory.seed, trajectory.number))
    else:
        state = before.state
    block, after = run_block(trajectory.start, state, trajectory.settings, lambda: method.calculator(params), frames)
    chunk = Chunk(trajectory.digest, trajectory.number, frames, block, after)
    open_store(trajectory.store).write(chunk_key(trajectory.run, trajectory.number, frames), encode(chunk))
    return done(chunk)


def done(chunk: Chunk) -> Done:
    """The report of a finished chunk, from the store or just made."""
    frames = sum(1 for failure in chunk.block.failures if failure.frame >= 0)
    return Done(chunk.trajectory, chunk.state, len(chunk.block.numbers), frames)
