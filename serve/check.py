"""What the schema of an endpoint spec cannot see: whether the model exists, can do the task, and may be guarded."""

from collections.abc import Mapping
from typing import Any

from cluster.errors import NotFoundError, UserError
from cluster.registry import ModelRef, resolve
from cluster.spec.complaints import Complaint, Surroundings
from cluster.store import Store, read_json
from serve.auth import read_tokens
from serve.capability import tasks_of
from serve.spec import EndpointSpec


def check(spec: EndpointSpec, surroundings: Surroundings) -> list[Complaint]:
    """Everything that is wrong with the spec in these surroundings."""
    found: list[Complaint] = []
    if surroundings.store is not None:
        found += _model(spec, surroundings.store)
    if surroundings.capacity is not None:
        found += _capacity(spec, surroundings.capacity)
    if spec.auth is not None:
        try:
            read_tokens(spec.auth.token_file)
        except UserError as error:
            found.append(Complaint(("auth", "token_file"), error.message, hint=error.hint))
    return found


def _model(spec: EndpointSpec, store: Store) -> list[Complaint]:
    try:
        ref = resolve(store, spec.model)
    except NotFoundError as error:
        return [Complaint(("model",), error.message, error.allowed, error.hint)]
    can = tasks_of(_facts(store, ref))
    if spec.task not in can:
        return [Complaint(("task",), f"model {ref} cannot do {spec.task}", ", ".join(can) or "no task of this version")]
    return []


def _facts(store: Store, ref: ModelRef) -> dict[str, Any]:
    """The facts a model was built from, off its model.json; the weights stay where they are."""
    facts: dict[str, Any] = read_json(store, f"{ref.folder}/model.json")["description"]["facts"]
    return facts


def _capacity(spec: EndpointSpec, capacity: Mapping[str, float]) -> list[Complaint]:
    found = []
    for resource, key, each in (("CPU", "cpus", spec.replicas.cpus), ("GPU", "gpus", spec.replicas.gpus)):
        most = capacity.get(resource, 0.0)
        if spec.replicas.min * each > most:
            message = f"{spec.replicas.min} replicas of {each:g} {resource} each are asked for"
            found.append(Complaint(("replicas", key), message, f"at most {most:g} {resource} in all on this cluster"))
    return found
