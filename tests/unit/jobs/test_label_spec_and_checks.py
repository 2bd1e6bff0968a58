"""What is wrong with a label, dataset or evaluate spec is said before anything runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from cluster.dataset.publish import publish_dataset
from cluster.spec.complaints import Complaint, Surroundings
from cluster.store import Store, open_store
from jobs.checks import dataset, evaluate, label
from jobs.ingest.rows import ImageRow, image_table
from jobs.label.geometry import Geometry
from jobs.label.labels import Labels
from jobs.label.molecules import molecule
from jobs.label.rows import given_table
from jobs.label.sources import Given
from jobs.label.split import split_trajectories
from jobs.spec.dataset import DatasetSpec
from jobs.spec.evaluate import EvaluateSpec
from jobs.spec.label import LabelSpec, MolecularDynamics, TrajectorySplit

LABEL: dict[str, Any] = {"kind": "label", "name": "a", "structures": {"molecule": "ethanol"}}


def labelled(surroundings: Surroundings | None = None, **changes: Any) -> list[Complaint]:
    return label.check(LabelSpec.model_validate({**LABEL, **changes}), surroundings or Surroundings())


def test_the_shipped_shape_of_a_spec_is_accepted() -> None:
    assert labelled() == []
    assert labelled(method={"name": "tblite", "params": {"method": "GFN1-xTB", "charge": 1}}) == []


def test_an_unknown_molecule_is_refused_with_the_nearest_name() -> None:
    (complaint,) = labelled(structures={"molecule": "etanol"})
    assert complaint.path == ("structures", "molecule")
    assert "did you mean 'ethanol'?" in complaint.message


def test_an_unknown_method_is_refused_with_what_there_is() -> None:
    (complaint,) = labelled(method={"name": "tblight"})
    assert complaint.path == ("method", "name")
    assert "did you mean 'tblite'?" in complaint.message
    assert "pkg.module:Class" in str(complaint.allowed)


def test_every_wrong_setting_of_a_method_is_told_at_once() -> None:
    found = labelled(method={"name": "tblite", "params": {"metod": "GFN2-xTB", "method": "GFN3-xTB", "accuracy": 0}})
    assert {complaint.path[-1] for complaint in found} == {"metod", "method", "accuracy"}
    assert "did you mean 'method'?" in next(c.message for c in found if c.path[-1] == "metod")


@pytest.mark.parametrize("name", ["ase.calculators.emt:EMTT", "no.such.module:Class", "ase.units:fs"])
def test_an_ase_calculator_that_does_not_exist_is_refused(name: str) -> None:
    (complaint,) = labelled(method={"name": name})
    assert complaint.path == ("method", "name")


def test_an_ase_calculator_by_its_import_path_is_accepted() -> None:
    assert labelled(method={"name": "ase.calculators.emt:EMT"}) == []


def test_a_missing_structure_file_is_named(tmp_path: Path) -> None:
    (complaint,) = labelled(Surroundings(folder=tmp_path), structures={"file": "a.xyz"})
    assert complaint.path == ("structures", "file")
    assert str(tmp_path / "a.xyz") in complaint.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"structures": {}}, "exactly one"),
        ({"structures": {"molecule": "water", "file": "a.xyz"}}, "exactly one"),
        ({"sampling": {"params": {"every_fs": 1.2}}}, "whole number of time steps"),
        ({"split": {"valid": 2, "test": 2}}, "leave at least one"),
        ({"sampling": {"params": {"frames": 0}}}, "greater than or equal to 1"),
        ({"sampling": {"name": "normal_modes"}}, "its name is 'md'"),
        ({"sampling": {"name": "given", "params": {"frames": 3}}}, "Extra inputs"),
        ({"sampling": {"name": "given"}, "split": {"by": "trajectory"}}, "none is run"),
        ({"sampling": {"name": "given"}, "split": {"by": "dataset"}}, "structures names none"),
        ({"split": {"by": "random"}}, "frames of a trajectory are alike"),
        ({"structures": {"molecule": "water", "split": "train"}}, "beside 'dataset' only"),
        ({"structures": {"molecule": "water", "dataset": "a@1"}}, "exactly one"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelSpec.model_validate({**LABEL, **changes})


@pytest.mark.parametrize(
    ("changes", "by"),
    [
        ({}, "trajectory"),
        ({"sampling": {"params": {"frames": 5}}, "split": {"valid": 2}}, "trajectory"),
        ({"sampling": {"name": "given"}}, "random"),
        ({"sampling": {"name": "given"}, "split": {"valid": 0.3}}, "random"),
        ({"sampling": {"name": "given"}, "structures": {"dataset": "a@1"}}, "dataset"),
        ({"sampling": {"name": "given"}, "structures": {"dataset": "a@1"}, "split": {"by": "group"}}, "group"),
        ({"sampling": {"name": "given"}, "structures": {"dataset": "a@1"}, "split": {"valid": 0.2}}, "random"),
    ],
)
def test_the_usual_split_follows_from_the_sampling_and_the_source(changes: dict[str, Any], by: str) -> None:
    spec = LabelSpec.model_validate({**LABEL, **changes})
    assert spec.split.by == by
    assert LabelSpec.model_validate(spec.model_dump(mode="json", by_alias=True)) == spec


def test_a_dataset_to_label_must_be_there_and_hold_structures(store: Store) -> None:
    (complaint,) = labelled(Surroundings(store=store), structures={"dataset": "picture@1"})
    assert complaint.path == ("structures", "dataset")
    (complaint,) = labelled(Surroundings(store=store), structures={"dataset": "pictures@1"})
    assert "holds images, not structures" in complaint.message
    assert labelled(structures={"dataset": "pictures@1"}) == []  # without a store nothing is known about it


def test_a_charge_that_the_structures_say_themselves_is_not_said_again(store: Store) -> None:
    geometry = Geometry.of(molecule("water"))
    given = Given("a", "a", "train", replace(geometry, charge=1.0, spin=2))
    table = given_table([given], [Labels(1.0, None, None)])
    publish_dataset(store, "ions", table, kind="structures", provenance={})
    source: dict[str, Any] = {"structures": {"dataset": "ions@1"}, "sampling": {"name": "given"}}
    assert labelled(Surroundings(store=store), **source) == []
    wrong = {"name": "tblite", "params": {"charge": 1, "multiplicity": 2}}
    found = labelled(Surroundings(store=store), **source, method=wrong)
    assert [complaint.path[-1] for complaint in found] == ["charge", "multiplicity"]
    (complaint,) = labelled(Surroundings(store=store), structures={"dataset": "ions@1", "split": "test"})
    assert (complaint.path, complaint.allowed) == (("structures", "split"), "train")


def test_steps_follow_from_times() -> None:
    settings = MolecularDynamics(every_fs=10, timestep_fs=0.5, equilibrate_fs=250)
    assert (settings.steps_between, settings.steps_before) == (20, 500)


def test_every_trajectory_is_in_exactly_one_split() -> None:
    splits = split_trajectories(8, TrajectorySplit(valid=2, test=1), seed=5)
    assert [splits.count(name) for name in ("train", "valid", "test")] == [5, 2, 1]
    assert splits != split_trajectories(8, TrajectorySplit(valid=2, test=1), seed=6)


def ingested(folder: Path, **source: Any) -> list[Complaint]:
    spec = DatasetSpec.model_validate({"kind": "dataset", "name": "a", "source": source})
    return dataset.check(spec, Surroundings(folder=folder))


def test_an_unknown_source_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (complaint,) = ingested(tmp_path, name="digit")
    assert "did you mean 'digits'?" in complaint.message


def test_missing_settings_and_files_of_a_source_are_named(tmp_path: Path) -> None:
    assert "needs the setting 'file'" in ingested(tmp_path, name="extxyz")[0].message
    (complaint,) = ingested(tmp_path, name="npz_rmd17", params={"file": "a.npz"})
    assert complaint.path == ("source", "params", "file")
    (tmp_path / "a.npz").touch()
    assert ingested(tmp_path, name="npz_rmd17", params={"file": "a.npz"}) == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(str(tmp_path / "store"))
    pixels = pa.array([0.0, 0.5, 1.0, 0.0]).to_numpy().astype("float32").reshape(1, 2, 2)
    rows = [ImageRow(str(i), pixels, i % 2, str(i), "train") for i in range(4)]
    publish_dataset(opened, "pictures", image_table(rows, (1, 2, 2)), kind="images", provenance={})
    return opened


def evaluated(store: Store, uri: str = "pictures@1", **changes: Any) -> dict[str, Complaint]:
    data = {"kind": "evaluate", "name": "a", "data": {"uri": uri, "split": "train"}, "endpoint": "http://host"}
    spec = EvaluateSpec.model_validate({**data, **changes})
    return {".".join(map(str, c.path)): c for c in evaluate.check(spec, Surroundings(store=store))}


def test_an_evaluation_that_fits_its_dataset_is_accepted(store: Store) -> None:
    assert evaluated(store, metrics=["linear_probe"]) == {}


def test_everything_an_evaluation_names_must_exist(store: Store) -> None:
    assert set(evaluated(store, "picture@1", endpoint=None, model="nobody@prod")) == {"data.uri", "model"}
    assert set(evaluated(store, endpoint="nowhere", token_file="/no/such/file")) == {"endpoint", "token_file"}


def test_a_metric_of_the_wrong_kind_of_dataset_is_refused(store: Store) -> None:
    found = evaluated(store, metrics=["linear_probe", "force_mae"])
    assert set(found) == {"metrics.1"}
    assert found["metrics.1"].allowed == "linear_probe, knn"


def test_a_split_without_rows_is_refused(store: Store) -> None:
    found = evaluated(store, data={"uri": "pictures@1", "split": "test"})
    assert found["data.split"].allowed == "train"


@pytest.mark.parametrize(
    "changes", [{"model": "a@1"}, {"endpoint": None}, {"endpoint": None, "model": "a@1", "token_file": "t"}]
)
def test_an_evaluation_names_one_predictor(store: Store, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"exactly one|token_file belongs"):
        evaluated(store, **changes)
