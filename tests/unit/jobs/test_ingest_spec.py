"""A dataset spec: files begin at the spec, and everything wrong with it is said before anything is read."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import jobs
from cluster.spec.complaints import Complaint, Surroundings
from cluster.spec.load import load_spec
from cluster.spec.problems import SpecError
from jobs.checks.dataset import check
from jobs.ingest.catalogue import SOURCES
from jobs.spec.dataset import DatasetSpec

SHIPPED = sorted((Path(jobs.__file__).parent / "specs" / "data").glob("*.yaml"))


def spec(name: str = "extxyz", params: dict[str, Any] | None = None, **more: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {"kind": "dataset", "name": "a", "source": {"name": name, "params": params or {}}, **more}
    )


def complaints(folder: Path, name: str, params: dict[str, Any], **more: Any) -> dict[str, Complaint]:
    found = check(spec(name, params, **more), Surroundings(folder=folder))
    return {".".join(map(str, complaint.path)): complaint for complaint in found}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.xyz", "b.xyz", "train-images", "train-labels", "atoms.xyz"):
        (tmp_path / name).touch()
    (tmp_path / "pictures").mkdir()
    return tmp_path


def test_file_names_begin_at_the_spec() -> None:
    params = {"file": "b.xyz", "test_file": ["c.xyz", "/d/*.xyz"], "energy_key": "file"}
    data = {"kind": "dataset", "name": "a", "source": {"name": "extxyz", "params": params}}
    data["reference_energies"] = {"file": "atoms.xyz"}
    inside = DatasetSpec.model_validate(data, context={"folder": Path("/somewhere")})
    assert inside.source.params == {
        "file": "/somewhere/b.xyz",
        "test_file": ["/somewhere/c.xyz", "/d/*.xyz"],
        "energy_key": "file",
    }
    assert inside.model_dump()["reference_energies"] == {"file": "/somewhere/atoms.xyz"}
    assert DatasetSpec.model_validate(data).source.params["file"] == "b.xyz"


def test_a_source_that_holds_rows_out_leaves_none_to_be_drawn_unless_asked() -> None:
    assert spec(params={"file": "a"}).split.test == 0.1
    assert spec(params={"file": "a", "test_file": "b"}).split.test == 0
    assert spec("npz_images", {"file": "a", "test_images": "x_test"}).split.test == 0
    assert spec(params={"file": "a", "test_file": "b"}, split={"test": 0.2}).split.test == 0.2
    assert spec(params={"file": "a", "test_file": None}).split.test == 0.1
    # What a run stores is read again and means the same.
    resolved = spec(params={"file": "a", "test_file": "b"}).model_dump(mode="json", by_alias=True)
    assert DatasetSpec.model_validate(resolved).split.test == 0


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_which_settings_it_has(folder: Path, name: str) -> None:
    found = complaints(folder, name, {"fiel": "a.xyz"})
    assert "unknown setting" in found["source.params.fiel"].message
    assert set(SOURCES[name].settings.model_fields) == set(
        str(found["source.params.fiel"].hint).removeprefix("settings: ").replace("none", "").split(", ")
    ) - {""}


def test_everything_is_said_at_once(folder: Path) -> None:
    found = complaints(
        folder,
        "extxyz",
        {"file": ["a.xyz", "c.xyz", "none-*.xyz"], "test_file": "b.xzy", "energi_key": "E", "labels": ["energie"]},
        reference_energies={"H": -13.6, "Cl": 0, "oxygen": -2041, "Hh": 1},
        split={"by": "group"},
    )
    assert set(found) == {
        "source.params.energi_key",
        "source.params.labels.0",
        "source.params.file.1",
        "source.params.file.2",
        "source.params.test_file",
        "reference_energies.oxygen",
        "reference_energies.Hh",
    }
    assert "did you mean 'energy_key'" in found["source.params.energi_key"].message
    assert "did you mean b.xyz" in found["source.params.test_file"].message
    assert "no file fits the pattern" in found["source.params.file.2"].message


def test_a_spec_that_is_right_is_accepted(folder: Path) -> None:
    assert not complaints(folder, "extxyz", {"file": "[ab].xyz"}, reference_energies={"file": "atoms.xyz"})
    assert not complaints(folder, "extxyz", {"file": "a.xyz", "group_by_file": True}, split={"by": "group"})
    assert not complaints(folder, "idx", {"file": "train-images", "labels_file": "train-labels"})
    assert not complaints(folder, "image_folder", {"folder": "pictures"})
    assert not complaints(folder, "parquet", {"file": "a.xyz", "kind": "structures"}, units={"energy": "hartree"})


def test_a_folder_and_a_file_of_reference_energies_must_be_there(folder: Path) -> None:
    found = complaints(folder, "image_folder", {"folder": "picture", "test_folder": "a.xyz"})
    assert "no folder" in found["source.params.folder"].message
    assert "did you mean pictures" in found["source.params.folder"].message
    assert "source.params.test_folder" in found
    assert (
        "no file"
        in complaints(folder, "digits", {}, reference_energies={"file": "b"})["reference_energies.file"].message
    )


def test_what_is_only_for_structures_is_refused_elsewhere(folder: Path) -> None:
    found = complaints(
        folder, "digits", {}, units={"length": "nm"}, reference_energies={"H": 1}, split={"by": "composition"}
    )
    assert set(found) == {"units", "reference_energies", "split.by"}
    assert "gives images" in found["units"].message
    assert set(complaints(folder, "parquet", {"file": "a.xyz"}, units={"energy": "Ry"})) == {"units"}


def test_a_split_by_group_needs_groups(folder: Path) -> None:
    found = complaints(folder, "extxyz", {"file": "a.xyz"}, split={"by": "group"})["split.by"]
    assert "a group of its own" in found.message
    assert "group_key or group_by_file" in str(found.hint)
    assert complaints(folder, "digits", {}, split={"by": "group"})["split.by"].allowed == "random"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": {"valid": 1.5}}, "a fraction below 1 or a whole number"),
        ({"split": {"valid": 0.5, "test": 0.5}}, "leave nothing to train on"),
        ({"split": {"by": "trajectory"}}, "composition"),
        ({"split": {"duplicates": "keep"}}, "allow"),
        ({"on_error": "ignore"}, "skip"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**change)


def test_problems_are_told_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(
        "kind: dataset\nname: a\nsource: {name: extxyz, params: {file: no.xyz}}\n"
        "units: {length: angstorm, forces: eV/nn}\nreference_energies: {Hf: 1, Hi: 2}\nsplit: {by: grup}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "d.yaml")
    told = str(caught.value)
    for words in (
        "d.yaml:3:33  source.params.file",
        "d.yaml:4:9  units.length\n  found text 'angstorm'; did you mean 'angstrom'?",
        "d.yaml:4:27  units.forces\n  found text 'eV/nn'; did you mean 'eV/nm'?",
        "d.yaml:5:29  reference_energies.Hi",
        "d.yaml:6:9  split.by\n  found text 'grup'; did you mean 'group'?",
    ):
        assert words in told, told


def test_a_spec_of_each_shippable_format_is_shipped() -> None:
    assert [path.stem for path in SHIPPED] == ["3bpa", "digits", "gdb1k", "mnist", "rmd17"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_specs_lack_nothing_but_their_files(path: Path) -> None:
    if path.stem == "digits":
        load_spec(path)
        return
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert all(problem.message.startswith("no file ") for problem in caught.value.problems), caught.value
