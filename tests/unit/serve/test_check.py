"""What is said about a spec before anything is deployed, and what is remembered of an endpoint."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import NotFoundError
from cluster.registry import move_alias, publish_model
from cluster.spec.complaints import Surroundings
from cluster.store import Store, open_store
from serve.check import check
from serve.record import EndpointRecord, list_records, load_record, mark_down, write_record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a potential, `ethanol@1`, alias `prod`; only what a check reads is in its files."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"")
    description = {"name": "gaunt_potential", "facts": {"species": [1], "reference_energies": [0.0]}}
    (folder / "model.json").write_text(json.dumps({"description": description}))
    store = open_store(str(tmp_path / "store"))
    publish_model(store, "ethanol", folder, {"run": "r1"})
    move_alias(store, "ethanol", "prod", 1, who="test", why="test")
    return store


def record(name: str = "ethanol", run_id: str = "r1") -> EndpointRecord:
    return EndpointRecord(
        name=name,
        url="http://127.0.0.1:8000",
        model="ethanol@1",
        reference="ethanol@prod",
        task="energy_forces",
        run_id=run_id,
        state="up",
    )


def test_a_spec_that_fits_its_surroundings_has_no_complaints(make_spec: Any, store: Store, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("t" * 32)
    tokens.chmod(0o600)
    spec = make_spec(model="ethanol@prod", auth={"token_file": str(tokens)})
    assert check(spec, Surroundings(store, {"CPU": 1.0, "GPU": 0.0}, tmp_path)) == []


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"model": "ethanl@prod"}, ("model",), "did you mean 'ethanol'"),
        ({"model": "ethanol@prd"}, ("model",), "did you mean 'prod'"),
        ({"model": "ethanol@2"}, ("model",), "no version '2'"),
        ({"task": "embed", "batching": {}}, ("task",), "model ethanol@1 cannot do embed"),
        ({"auth": {"token_file": "/nowhere/tokens"}}, ("auth", "token_file"), "cannot be read"),
        ({"replicas": {"min": 3, "max": 3}}, ("replicas", "cpus"), "3 replicas of 1 CPU each"),
        ({"replicas": {"gpus": 1}}, ("replicas", "gpus"), "1 replicas of 1 GPU each"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(
    make_spec: Any, store: Store, changes: dict[str, Any], path: tuple[str, ...], words: str
) -> None:
    spec = make_spec(**{"model": "ethanol@prod", **changes})
    (complaint,) = check(spec, Surroundings(store, {"CPU": 2.0, "GPU": 0.0}))
    assert complaint.path == path
    assert words in complaint.message


def test_all_problems_are_told_at_once(make_spec: Any, store: Store) -> None:
    spec = make_spec(model="x@1", auth={"token_file": "/nowhere"}, replicas={"min": 9, "max": 9})
    found = check(spec, Surroundings(store, {"CPU": 1.0}))
    assert [complaint.path[0] for complaint in found] == ["model", "replicas", "auth"]


def test_nothing_is_said_about_what_is_not_known(make_spec: Any) -> None:
    assert check(make_spec(model="x@1", replicas={"min": 9, "max": 9}), Surroundings()) == []


def test_a_record_is_found_by_name_and_a_misspelt_one_names_the_nearest(store: Store) -> None:
    write_record(store, record())
    assert load_record(store, "ethanol") == record()
    with pytest.raises(NotFoundError, match="did you mean 'ethanol'"):
        load_record(store, "ethanl")


def test_the_newest_deployment_of_a_name_counts(store: Store) -> None:
    write_record(store, record(run_id="r1"))
    write_record(store, record(run_id="r2"))
    mark_down(store, "ethanol", "r1")  # the older run ends late: the name is not its any more
    assert load_record(store, "ethanol").state == "up"
    mark_down(store, "ethanol", "r2")
    assert load_record(store, "ethanol").state == "down"
    assert [r.name for r in list_records(store)] == ["ethanol"]


def test_an_endpoint_that_never_came_up_leaves_no_record(store: Store) -> None:
    mark_down(store, "ethanol", "r1")
    assert list_records(store) == []
