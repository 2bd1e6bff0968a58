"""Readers of files and the splits of what they read."""

from pathlib import Path

import numpy as np
import pytest

from cluster.errors import NotFoundError, UserError
from jobs.ingest.extxyz import ExtxyzSettings, read_extxyz
from jobs.ingest.rmd17 import Rmd17Settings, read_rmd17
from jobs.ingest.split import Unsplit, assign_splits
from jobs.spec.dataset import DatasetSpec, Shares

FRAME = """2
Properties=species:S:1:pos:R:3:forces:R:3 energy={energy} run={run}
H 0.0 0.0 0.0 0.1 0.2 0.3
H 0.0 0.0 0.7 -0.1 -0.2 -0.3
"""
ATOM = "1\nProperties=species:S:1:pos:R:3 energy=-13.6\nH 0.0 0.0 0.0\n"


def archive(path: Path, frames: int = 4, **changes: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    arrays = {
        "nuclear_charges": np.array([8, 1, 1], dtype=np.uint8),
        "coords": rng.normal(size=(frames, 3, 3)),
        "energies": np.full(frames, -100.0),
        "forces": np.full((frames, 3, 3), 10.0),
        **changes,
    }
    np.savez(path, **{name: values for name, values in arrays.items() if values.size})
    return str(path)


def test_rmd17_is_converted_from_kcal_per_mol_to_ev(tmp_path: Path) -> None:
    rows = read_rmd17(Rmd17Settings(file=archive(tmp_path / "a.npz")), tmp_path).structures
    assert len(rows) == 4
    # 1 kcal/mol is 4184 J / 6.02214076e23 / 1.602176634e-19 C = 0.04336410 eV.
    assert rows[0].energy == pytest.approx(-4.336410, abs=1e-6)
    np.testing.assert_allclose(rows[0].forces, 0.4336410, atol=1e-7)


def test_a_test_archive_goes_to_the_test_split(tmp_path: Path) -> None:
    settings = Rmd17Settings(file=archive(tmp_path / "a.npz"), test_file=archive(tmp_path / "b.npz", 2))
    rows = read_rmd17(settings, tmp_path).structures
    assert [row.split for row in rows] == ["", "", "", "", "test", "test"]
    assert len({row.id for row in rows}) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forces": np.empty(0)}, "has no array forces"),
        ({"forces": np.zeros((4, 2, 3))}, "do not fit each other"),
    ],
)
def test_an_archive_of_another_format_is_refused(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_rmd17(Rmd17Settings(file=archive(tmp_path / "a.npz", **changes)), tmp_path)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("not an archive")
    with pytest.raises(UserError, match="not an npz archive"):
        read_rmd17(Rmd17Settings(file="a.npz"), tmp_path)


def test_extended_xyz_is_read_with_energies_forces_and_trajectories(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(ATOM + FRAME.format(energy=-31.5, run="a") + FRAME.format(energy=-31.4, run="b"))
    rows = read_extxyz(ExtxyzSettings(file="a.xyz", group_key="run"), tmp_path).structures
    assert [(row.energy, row.group) for row in rows] == [(-31.5, "a"), (-31.4, "b")]
    np.testing.assert_array_equal(rows[0].numbers, [1, 1])
    np.testing.assert_allclose(rows[0].forces[1], [-0.1, -0.2, -0.3])


def test_a_frame_without_forces_is_refused_and_what_is_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(FRAME.format(energy=-31.5, run="a"))
    with pytest.raises(UserError, match="no 'dft_forces'") as caught:
        read_extxyz(ExtxyzSettings(file="a.xyz", forces_key="dft_forces"), tmp_path)
    assert "forces" in str(caught.value.allowed)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.xyz"):
        read_extxyz(ExtxyzSettings(file="nowhere.xyz"), tmp_path)


def test_fractions_and_counts_give_the_same_split() -> None:
    rows = [Unsplit("", str(i)) for i in range(50)]
    fractions = assign_splits(rows, Shares(valid=0.1, test=0.2), seed=1)
    assert fractions == assign_splits(rows, Shares(valid=5, test=10), seed=1)
    assert [fractions.count(name) for name in ("train", "valid", "test")] == [35, 5, 10]
    assert fractions != assign_splits(rows, Shares(valid=5, test=10), seed=2)


def test_each_class_keeps_its_share_in_each_split() -> None:
    rows = [Unsplit("", str(i), stratum=i % 10 == 0) for i in range(200)]
    splits = assign_splits(rows, Shares(valid=0.2, test=0.3), seed=0)
    rare = [name for name, row in zip(splits, rows, strict=True) if row.stratum]
    assert [rare.count(name) for name in ("train", "valid", "test")] == [10, 4, 6]


def test_groups_are_never_torn_apart() -> None:
    rows = [Unsplit("", f"run-{i % 6}") for i in range(60)]
    splits = assign_splits(rows, Shares(by="group", valid=1, test=2), seed=0)
    for group in range(6):
        assert len(set(splits[group::6])) == 1
    assert [splits.count(name) for name in ("train", "valid", "test")] == [30, 10, 20]


def test_what_a_reader_decided_stays() -> None:
    rows = [Unsplit("test", "t")] * 3 + [Unsplit("", str(i)) for i in range(10)]
    splits = assign_splits(rows, Shares(valid=2, test=0), seed=0)
    assert splits[:3] == ["test"] * 3
    assert splits[3:].count("valid") == 2


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match="nothing is left to train on"):
        assign_splits([Unsplit("", str(i)) for i in range(4)], Shares(valid=2, test=2), seed=0)


def test_file_names_in_a_spec_start_at_the_spec() -> None:
    data = {"kind": "dataset", "name": "a", "source": {"name": "extxyz", "params": {"file": "b.xyz"}}}
    inside = DatasetSpec.model_validate(data, context={"folder": Path("/somewhere/specs")})
    assert inside.source.params["file"] == "/somewhere/specs/b.xyz"
    assert DatasetSpec.model_validate(data).source.params["file"] == "b.xyz"
