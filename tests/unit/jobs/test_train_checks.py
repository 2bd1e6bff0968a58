"""What a training spec or a sweep is told about its surroundings, before anything starts."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import images_schema
from cluster.spec.complaints import Complaint, Surroundings
from cluster.store import Store
from jobs.checks import sweep as sweep_checks
from jobs.checks import train as train_checks
from jobs.spec.sweep import SweepSpec
from jobs.spec.train import TrainSpec

FOLDER = Path(__file__).parents[3] / "jobs" / "specs" / "demo" / "ethanol"


def spec(**changes: Any) -> TrainSpec:
    data = YAML(typ="safe").load((FOLDER / "train.yaml").read_text(encoding="utf-8"))
    return TrainSpec.model_validate(data).with_changes(changes)


def sweep(**changes: Any) -> SweepSpec:
    data = YAML(typ="safe").load((FOLDER / "sweep.yaml").read_text(encoding="utf-8"))
    return SweepSpec.model_validate(data | changes, context={"folder": FOLDER})


def told(found: list[Complaint]) -> str:
    return "\n".join(f"{'.'.join(map(str, c.path))}: {c.message} {c.allowed} {c.hint}" for c in found)


@pytest.fixture
def with_images(store: Store) -> Store:
    pixels = [[0.0, 0.5, 1.0, 0.0]] * 4
    columns = {"id": list("abcd"), "pixels": pixels, "label": [0, 1, 0, 1], "group": list("abcd")}
    table = pa.table({**columns, "split": ["train", "train", "valid", "test"]}, schema=images_schema((1, 2, 2)))
    publish_dataset(store, "squares", table, kind="images", statistics={}, provenance={"method": "test"})
    return store


def test_the_shipped_specs_have_nothing_to_complain_about_but_the_missing_dataset(store: Store) -> None:
    surroundings = Surroundings(store, {"CPU": 2, "GPU": 0})
    assert {c.path for c in train_checks.check(spec(), surroundings)} == {("data", "uri")}
    assert {c.path for c in sweep_checks.check(sweep(), surroundings)} == {("data", "uri")}
    assert sweep_checks.check(sweep(), Surroundings()) == []


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"model.name": "gaunt_potentail"}, "model.name", "did you mean 'gaunt_potential'"),
        ({"model.params": {"lmaxx": 2}}, "model.params.lmaxx", "did you mean 'lmax'"),
        ({"model.params": {"lmax": -1}}, "model.params.lmax", "0 to 6"),
        ({"model.params": {"lmax": "two"}}, "model.params.lmax", "int"),
        ({"objective.name": "energy_forces"}, "objective.name", "did you mean 'energy_force'"),
        ({"embedding.radial.name": "besel"}, "embedding.radial.name", "did you mean 'bessel'"),
        ({"embedding.radial.params": {"nmber": 4}}, "embedding.radial.params.nmber", "did you mean 'number'"),
        ({"embedding.angular": {"name": "bessel"}}, "embedding.angular", "unknown embedding"),
        ({"publish.metric": "valid/force_mea"}, "publish.metric", "did you mean 'valid/force_mae'"),
        ({"resources.workers": 4}, "resources.workers", "the cluster has at most 2"),
        ({"resources.workers": {"min": 4, "max": 8}}, "resources.workers", "the cluster has at most 2"),
        ({"strategy.units": "blocks"}, "strategy.units", "use kind: fsdp, or units: root"),
        ({"strategy.offload": "cpu"}, "strategy.offload", "use offload: none"),
        ({"data.uri": "datasets/ethonol"}, "data.uri", "ethonol"),
        ({"data.uri": "datasets/squares"}, "data.uri", "holds images, not structures; missing columns: numbers"),
    ],
)
def test_each_mistake_is_told_at_its_place(changes: dict[str, Any], path: str, words: str, with_images: Store) -> None:
    found = told(train_checks.check(spec(**changes), Surroundings(with_images, {"CPU": 2, "GPU": 0})))
    assert any(line.startswith(f"{path}: ") and words in line for line in found.splitlines()), found


def test_a_range_of_workers_needs_room_for_the_smallest_number() -> None:
    found = train_checks.check(spec(**{"resources.workers": {"min": 2, "max": 8}}), Surroundings(None, {"CPU": 2}))
    assert found == []


def test_all_mistakes_are_told_at_once(with_images: Store) -> None:
    changes = {"model.name": "x", "publish.metric": "y", "resources.workers": 8, "data.uri": "datasets/squares"}
    found = train_checks.check(spec(**changes), Surroundings(with_images, {"CPU": 2}))
    assert {c.path for c in found} == {
        ("model", "name"),
        ("publish", "metric"),
        ("resources", "workers"),
        ("data", "uri"),
    }


def test_a_corner_of_a_space_that_cannot_be_built_is_told_before_any_trial() -> None:
    space = {"model.params.lmax": {"choice": [1, 9]}, "optimizer.params.lr": {"uniform": [-1.0, 1.0]}}
    found = told(sweep_checks.check(sweep(space=space), Surroundings()))
    assert "space.model.params.lmax: model 'gaunt_potential': lmax is 9 0 to 6" in found
    assert "space.optimizer.params.lr: " in found


def test_a_space_over_a_setting_that_does_not_exist_is_told_once() -> None:
    found = sweep_checks.check(sweep(space={"model.params.lmx": {"choice": [1, 2, 3]}}), Surroundings())
    assert len({c.path for c in found}) == 1
    assert "did you mean 'lmax'" in told(found)
