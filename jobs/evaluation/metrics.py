"""How far predicted energies and forces are from the reference, and from a predictor that learned nothing."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from jobs.evaluation.frames import Floats, Frames, Prediction

METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"structures": ("energy_mae_per_atom", "force_mae", "rotation"), "images": ("linear_probe", "knn")}
)


def energy_mae_per_atom(frames: Frames, predicted: Floats) -> float:
    """Mean over structures of |E - E_ref| / n, eV per atom. predicted: (B,) eV."""
    return float(np.mean(np.abs(predicted - frames.energies) / frames.atoms))


def force_mae(frames: Frames, predicted: Sequence[Floats]) -> float:
    """Mean over all components of |F - F_ref|, eV/angstrom. predicted: B times (n, 3)."""
    return float(np.mean(np.abs(np.concatenate(predicted) - np.concatenate(frames.forces))))


def force_mean_abs(frames: Frames) -> float:
    """Mean over all components of |F_ref|, eV/angstrom: the error of predicting no force at all."""
    return float(np.mean(np.abs(np.concatenate(frames.forces))))


def training_mean(train: Frames, frames: Frames) -> Prediction:
    """The predictor that knows only two means of the training rows: energy per atom, and force vector."""
    per_atom = float(np.mean(train.energies / train.atoms))
    force = np.concatenate(train.forces).mean(axis=0)
    return Prediction(per_atom * frames.atoms, [np.tile(force, (len(z), 1)) for z in frames.numbers])
