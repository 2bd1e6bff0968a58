"""The public data sets of EQUI_BENCH_DATA through their readers, against figures that their README states."""

import os
from pathlib import Path

import numpy as np
import pytest

from cluster.dataset.conform import conform
from jobs.evaluation.frames import frames_of
from jobs.evaluation.metrics import energy_mae_per_atom, force_mean_abs, training_mean
from jobs.ingest.readers import find_reader, settings_of
from jobs.ingest.run import split_table
from jobs.spec.dataset import DatasetSpec

pytestmark = [
    pytest.mark.bench_data,
    pytest.mark.skipif("EQUI_BENCH_DATA" not in os.environ, reason="EQUI_BENCH_DATA is not set"),
]


def read(name: str, **params: str) -> tuple[DatasetSpec, object]:
    spec = DatasetSpec.model_validate(
        {"kind": "dataset", "name": "a", "source": {"name": name, "params": params}, "split": {"valid": 50, "test": 0}}
    )
    folder = Path(os.environ["EQUI_BENCH_DATA"])
    return spec, find_reader(spec.source).read(settings_of(spec.source), folder)


def test_rmd17_ethanol_has_the_trivial_baseline_of_its_readme() -> None:
    files = {"file": "rmd17/rmd17_ethanol_train_01.npz", "test_file": "rmd17/rmd17_ethanol_test_01.npz"}
    spec, reading = read("npz_rmd17", **files)
    table = conform(split_table(reading, spec), "structures")  # type: ignore[arg-type]
    counts = [table["split"].to_pylist().count(split) for split in ("train", "valid", "test")]
    assert counts == [950, 50, 1000]
    train, test = (frames_of(table.filter(np.array(table["split"].to_pylist()) == s)) for s in ("train", "test"))
    mean = training_mean(train, test)
    # Training-mean energy and zero force: 140.8 meV and 876.8 meV/angstrom.
    assert 9 * energy_mae_per_atom(test, mean.energies) == pytest.approx(0.1408, rel=0.01)
    assert force_mean_abs(test) == pytest.approx(0.8768, rel=1e-4)


def test_3bpa_is_read_without_its_isolated_atoms() -> None:
    spec, reading = read("extxyz", file="3bpa/train_300K.xyz")
    table = conform(split_table(reading, spec), "structures")  # type: ignore[arg-type]
    assert len(table) == 500
    assert {len(numbers) for numbers in table["numbers"].to_pylist()} == {27}
