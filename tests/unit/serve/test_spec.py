"""What an endpoint spec may say, and that the shipped ones say it."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

import serve
from serve import engine
from serve.rejection import RejectedError
from serve.spec import EndpointSpec

SHIPPED = sorted((Path(serve.__file__).parent / "specs").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_spec_is_valid(path: Path) -> None:
    spec = EndpointSpec.model_validate(YAML(typ="safe").load(path.read_text()))
    assert path.stem == f"{spec.name}-endpoint"
    assert spec.auth is not None
    assert spec.http.host == "127.0.0.1"


def test_two_specs_are_shipped() -> None:
    assert [path.stem for path in SHIPPED] == ["digits-endpoint", "ethanol-endpoint"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batchng": {}}, "batchng"),
        ({"name": "No Spaces"}, "name"),
        ({"model": "a@b@c"}, "model"),
        ({"task": "energy"}, "energy_forces"),
        ({"batching": {"max_pixels": 3}}, "max_pixels does not apply to task energy_forces"),
        ({"task": "embed", "batching": {"max_atoms": 3}}, "max_atoms does not apply to task embed"),
        ({"replicas": {"min": 3, "max": 2}}, "at least min, which is 3"),
        ({"http": {"port": 70_000}}, "65535"),
        ({"http": {"prefix": "ethanol"}}, "prefix"),
        ({"http": {"prefix": "/ethanol/"}}, "prefix"),
        ({"http": {"host": "0.0.0.0"}}, "auth.token_file is needed"),
        ({"auth": {"token_file": "tokens"}}, "an absolute path"),
        ({"limits": {"max_queued_items": 5}}, "max_queued_items is 5"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(
    make_spec: Callable[..., EndpointSpec], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        make_spec(**changes)


def test_a_spec_survives_json(make_spec: Callable[..., EndpointSpec]) -> None:
    spec = make_spec(auth={"token_file": "~/tokens"}, replicas={"min": 1, "max": 4})
    assert EndpointSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


def test_the_budget_is_of_the_task(make_spec: Callable[..., EndpointSpec]) -> None:
    assert make_spec(batching={}).budget == 20_000
    assert make_spec(batching={"max_atoms": 7}).budget == 7
    assert make_spec(task="embed", batching={"max_pixels": 9}).budget == 9


def test_ray_serve_is_given_room_for_batches_and_bounded_queues(make_spec: Callable[..., EndpointSpec]) -> None:
    fixed = engine.options(make_spec())
    scaled = engine.options(make_spec(replicas={"min": 1, "max": 4, "target_ongoing": 20}))
    assert fixed["num_replicas"] == 1
    assert "autoscaling_config" not in fixed
    assert scaled["autoscaling_config"]["max_replicas"] == 4
    assert scaled["max_ongoing_requests"] >= 80
    assert all(0 < options["max_queued_requests"] < 10_000 for options in (fixed, scaled))


def test_a_rejection_survives_pickling() -> None:
    refusal = RejectedError(503, "busy", "full", where=("structures", 1), retry_after_s=2)
    again = pickle.loads(pickle.dumps(refusal))
    assert (again.body(), again.headers(), again.status) == (refusal.body(), refusal.headers(), 503)
