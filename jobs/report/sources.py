"""What a report is drawn from: the measurements, trials and predictions of runs on the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cluster.store import Store
from jobs.recording.history import read_history

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One measured quantity over the steps of a run."""

    steps: Floats
    values: Floats


@dataclass(frozen=True)
class Predictions:
    """References and predictions of an evaluation: energies (B,) eV per atom, forces (M,) eV/angstrom components."""

    energies: Floats
    predicted_energies: Floats
    forces: Floats
    predicted_forces: Floats


def read_curves(store: Store, run: str) -> dict[str, Curve]:
    """Every quantity of a run by its name, "loss" for one; a step taken twice counts as measured last."""
    return curves_of(read_history(store, run))


def curves_of(table: pa.Table) -> dict[str, Curve]:
    """The columns of a history; a curve has the steps at which its quantity was measured."""
    steps = table["step"].to_numpy().astype(np.float64)
    found = {}
    for name in sorted(set(table.column_names) - {"step", "attempt", "time"}):
        there = table[name].is_valid().to_numpy()
        if there.any():
            found[name] = Curve(steps[there], table[name].drop_null().to_numpy())
    return found


def read_trials(store: Store, run: str) -> list[dict[str, Any]]:
    """The trials of a sweep, best first as the sweep wrote them; empty where there are none."""
    key = f"runs/{run}/trials.json"
    trials: list[dict[str, Any]] = json.loads(store.read(key)) if store.exists(key) else []
    return trials


def read_predictions(store: Store, key: str) -> Predictions | None:
    """Predictions of structures; None where there is no such file, or it holds those of images."""
    if not store.exists(key):
        return None
    table = pq.read_table(BytesIO(store.read(key)))
    if "predicted_energy" not in table.column_names:
        return None
    atoms = table["atoms"].to_numpy().astype(np.float64)
    return Predictions(
        energies=table["energy"].to_numpy() / atoms,
        predicted_energies=table["predicted_energy"].to_numpy() / atoms,
        forces=table["forces"].combine_chunks().flatten().to_numpy(),
        predicted_forces=table["predicted_forces"].combine_chunks().flatten().to_numpy(),
    )


def read_record(store: Store, run: str) -> Mapping[str, Any]:
    """A run's record as it stands, or nothing."""
    key = f"runs/{run}/record.json"
    record: Mapping[str, Any] = json.loads(store.read(key)) if store.exists(key) else {}
    return record
