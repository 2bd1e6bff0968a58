"""Figures of datasets are those of plain loops, whole or added up from parts."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.conform import conform
from cluster.dataset.moments import Moments
from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import SPLITS, Kind
from cluster.dataset.statistics import describe, measure, merge
from cluster.dataset.tensors import tensor_array
from cluster.store import Store

Molecules = Callable[..., pa.Table]


def figures(table: pa.Table, kind: Kind, cuts: Sequence[int] = ()) -> dict[str, Any]:
    """The figures of a table, measured split by split and cut after some rows of each."""
    parts = []
    for split in SPLITS:
        rows = table.filter(pa.compute.equal(table["split"], split))
        ends = [0, *(min(cut, len(rows)) for cut in cuts), len(rows)]
        parts += [(split, measure(rows.slice(a, b - a), kind)) for a, b in pairwise(ends) if b > a]
    return describe(merge(parts), kind)


def pictures(rows: int = 30, dtype: str = "float32") -> pa.Table:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (rows, 3, 4, 5)).astype(dtype)
    names = [f"i{row}" for row in range(rows)]
    return pa.table(
        {
            "id": names,
            "pixels": tensor_array(pixels),
            "label": [row % 3 for row in range(rows)],
            "group": names,
            "split": ["test" if row % 5 == 0 else "train" for row in range(rows)],
        }
    )


def test_figures_of_structures_are_those_of_a_plain_loop(molecules: Molecules) -> None:
    table = conform(molecules(40), "structures")
    rows = table.to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    energies = [row["energy"] / len(row["numbers"]) for row in train]
    forces = [force for row in train for force in row["forces"]]
    atoms = [z for row in rows for z in row["numbers"]]
    sizes = [len(row["numbers"]) for row in rows]
    found = figures(table, "structures")
    assert found["species"] == [1, 6, 8]
    assert found["atoms_by_species"] == {str(z): atoms.count(z) for z in (1, 6, 8)}
    assert found["atoms_per_structure"] == [2, 4]
    assert found["rows_by_size"] == {str(n): sizes.count(n) for n in (2, 3, 4)}
    assert found["compositions"] == len({tuple(sorted(row["numbers"])) for row in rows})
    assert found["energy_per_atom_mean_eV"] == pytest.approx(np.mean(energies))
    assert found["energy_per_atom_std_eV"] == pytest.approx(np.std(energies))
    assert found["force_mean_abs_eV_per_angstrom"] == pytest.approx(np.mean(np.abs(forces)))
    assert found["force_rms_eV_per_angstrom"] == pytest.approx(np.mean(np.square(forces)) ** 0.5)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_figures_of_images_leave_the_test_pixels_out(scale: float) -> None:
    table = pictures(dtype="float32" if scale == 1.0 else "uint8")
    train = [row for row in table.to_pylist() if row["split"] == "train"]
    pixels = np.array([row["pixels"] for row in train]).reshape(-1, 3, 20) / scale
    found = figures(table, "images")
    assert found["shape"] == [3, 4, 5]
    assert found["pixel_mean"] == pytest.approx(pixels.mean())
    assert found["pixel_std"] == pytest.approx(pixels.std())
    assert found["channel_mean"] == pytest.approx(pixels.mean(axis=(0, 2)))
    assert found["channel_std"] == pytest.approx(pixels.std(axis=(0, 2)))
    assert found["rows_by_label"] == {"0": 10, "1": 10, "2": 10}
    assert found["classes"] == 3


def test_without_training_rows_all_rows_count() -> None:
    table = pictures()
    test = table.filter(pa.compute.equal(table["split"], "test"))
    values = np.array(test["pixels"].to_pylist())
    assert figures(test, "images")["pixel_mean"] == pytest.approx(values.mean())


@pytest.mark.parametrize("cuts", [(1,), (3, 4, 20), tuple(range(1, 36))])
def test_parts_add_up_to_the_whole(molecules: Molecules, cuts: tuple[int, ...]) -> None:
    tables: list[tuple[pa.Table, Kind]] = [(conform(molecules(40), "structures"), "structures"), (pictures(), "images")]
    for table, kind in tables:
        whole, parts = figures(table, kind), figures(table, kind, cuts)
        assert parts.keys() == whole.keys()
        for name, value in whole.items():
            assert parts[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float | list) else value)


def test_points_and_signals_have_figures_too() -> None:
    names = ["a", "b", "c"]
    ends = {"id": names, "group": names, "split": ["train"] * 3, "label": [7, 7, 8]}
    points = pa.table({**ends, "positions": [[0.0] * 3, [0.0] * 9, [0.0] * 9]})
    assert figures(conform(points, "points"), "points") == {
        "points_per_cloud": [1, 3],
        "rows_by_size": {"1": 1, "3": 2},
        "classes": 2,
        "rows_by_label": {"7": 2, "8": 1},
    }
    signals = pa.table({**ends, "values": tensor_array(np.arange(12.0).reshape(3, 2, 2))})
    found = figures(conform(signals, "signals"), "signals")
    assert found["shape"] == [2, 2]
    assert found["value_mean"] == pytest.approx(5.5)
    assert found["channel_mean"] == pytest.approx([4.5, 6.5])


def test_a_deviation_survives_a_mean_that_is_a_billion_times_as_large() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=10_000) * 1e-3
    parts = [Moments.of(part - 1e6) for part in np.split(values, 100)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert total.one.deviation == pytest.approx(values.std(), rel=1e-5)
    # The negative control: as the difference of two sums of squares it would be lost.
    naive = np.sum(np.square(values - 1e6)) / 10_000 - np.square(np.mean(values - 1e6))
    assert abs(naive) ** 0.5 != pytest.approx(values.std(), rel=1e-1)


def test_figures_of_the_publisher_stand_beside_the_others(store: Store, molecules: Molecules) -> None:
    table = molecules()
    manifest = publish_dataset(
        store, "water", table, kind="structures", statistics={"temperature_K": 300.0}, provenance={}, rows_per_shard=3
    )
    assert manifest.statistics["temperature_K"] == 300.0
    whole = figures(conform(table, "structures"), "structures")
    assert manifest.statistics["force_rms_eV_per_angstrom"] == pytest.approx(whole["force_rms_eV_per_angstrom"])
    assert manifest.statistics["atoms_by_species"] == whole["atoms_by_species"]
