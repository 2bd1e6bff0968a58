"""The evaluation of a potential: errors, baselines, and the rotation check."""

from typing import Any

import pyarrow as pa

from cluster.progress import Task
from jobs.evaluation.frames import Frames, Prediction
from jobs.evaluation.metrics import energy_mae_per_atom, force_mae, force_mean_abs, training_mean
from jobs.evaluation.predictors import Predictor
from jobs.evaluation.rotation import rotation_errors
from jobs.spec.evaluate import EvaluateSpec


def evaluate_structures(
    spec: EvaluateSpec, predictor: Predictor, frames: Frames, train: Frames | None, task: Task
) -> tuple[dict[str, float], pa.Table]:
    """The wanted figures, and one row a structure with what was predicted. `train`: None for no baseline."""
    prediction = predict_in_batches(predictor, frames, spec.batch, task)
    figures: dict[str, float] = {"structures": len(frames)}
    mean = training_mean(train, frames) if train is not None else None
    if spec.wants("energy_mae_per_atom"):
        figures["energy_mae_per_atom_ev"] = energy_mae_per_atom(frames, prediction.energies)
        if mean is not None:
            figures["baseline_energy_mae_per_atom_ev"] = energy_mae_per_atom(frames, mean.energies)
    if spec.wants("force_mae"):
        error, size = force_mae(frames, prediction.forces), force_mean_abs(frames)
        figures |= {"force_mae_ev_per_ang": error, "force_mean_abs_ev_per_ang": size}
        if size > 0:
            figures["force_mae_relative"] = error / size
        if mean is not None:
            figures["baseline_force_mae_ev_per_ang"] = force_mae(frames, mean.forces)
    if spec.wants("rotation"):
        turned, energy = rotation_errors(predictor.energy_forces, frames.first(spec.rotations), spec.seed)
        figures |= {"rotation_rel_error": turned, "rotation_energy_error_ev": energy}
    return figures, prediction_table(frames, prediction)


def predict_in_batches(predictor: Predictor, frames: Frames, batch: int, task: Task) -> Prediction:
    """All frames, `batch` at a time, so that memory is bounded and progress is seen."""
    energies: list[float] = []
    forces: list[Any] = []
    for at in range(0, len(frames), batch):
        asked = frames.part(at, at + batch)
        part = predictor.energy_forces(asked.numbers, asked.positions, asked.lattices, asked.states)
        energies += part.energies.tolist()
        forces += part.forces
        task.advance(len(asked))
    return Prediction(energies=pa.array(energies, pa.float64()).to_numpy(), forces=forces)


def prediction_table(frames: Frames, prediction: Prediction) -> pa.Table:
    """One row a structure: reference and prediction side by side, forces flat (3n)."""
    flat = pa.list_(pa.float64())
    return pa.table(
        {
            "id": pa.array(frames.ids, pa.string()),
            "atoms": pa.array([len(z) for z in frames.numbers], pa.int64()),
            "energy": pa.array(frames.energies, pa.float64()),
            "predicted_energy": pa.array(prediction.energies, pa.float64()),
            "forces": pa.array([f.ravel() for f in frames.forces], flat),
            "predicted_forces": pa.array([f.ravel() for f in prediction.forces], flat),
        }
    )
