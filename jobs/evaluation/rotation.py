"""Does a rotated molecule get rotated forces and the same energy?"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from jobs.evaluation.frames import Floats, Frames, Lattice, Prediction, State

Predict = Callable[
    [Sequence[NDArray[Any]], Sequence[Floats], Sequence[Lattice] | None, Sequence[State] | None], Prediction
]


def rotation_errors(predict: Predict, frames: Frames, seed: int) -> tuple[float, float]:
    """The worst of all frames, each turned by a random rotation R of its own.

    Returns ||F(Rx) - R F(x)|| / ||F(x)|| (Frobenius norms over the atoms of one structure; dimensionless) and
    |E(Rx) - E(x)| in eV. A structure without any predicted force counts by its absolute error, in eV/angstrom.
    """
    turns = Rotation.random(len(frames), rng=np.random.default_rng(seed)).as_matrix()
    turned = [positions @ turn.T for positions, turn in zip(frames.positions, turns, strict=True)]
    lattices = None
    if frames.lattices is not None:
        lattices = [(cell @ turn.T, pbc) for (cell, pbc), turn in zip(frames.lattices, turns, strict=True)]
    plain = predict(frames.numbers, frames.positions, frames.lattices, frames.states)
    rotated = predict(frames.numbers, turned, lattices, frames.states)
    worst = 0.0
    for before, after, turn in zip(plain.forces, rotated.forces, turns, strict=True):
        size = float(np.linalg.norm(before))
        worst = max(worst, float(np.linalg.norm(after - before @ turn.T)) / (size or 1.0))
    return worst, float(np.max(np.abs(rotated.energies - plain.energies)))
