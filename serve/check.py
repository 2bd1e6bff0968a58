"""What the schema of an endpoint spec cannot see: whether the model exists, can do the task, and may be guarded."""

import json
from typing import Any

from cluster.errors import NotFoundError, UserError
from cluster.registry import resolve
from cluster.spec.complaints import Complaint, Surroundings
from cluster.spec.wording import did_you_mean
from cluster.store import Store
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
        return [Complaint(("model",), error.message + _nearest(spec, store, error), error.allowed, error.hint)]
    can = tasks_of(model_facts(store, ref.name, ref.version))
    if spec.task not in can:
        message = f"model {ref.name}@{ref.version} cannot do {spec.task}"
        return [Complaint(("task",), message, ", ".join(can) or "no task of this version")]
    return []


def _nearest(spec: EndpointSpec, store: Store, error: NotFoundError) -> str:
    """The nearest model name, where the registry's own message has not named one."""
    name = spec.model.partition("@")[0]
    known = store.children("models")
    return "" if "did you mean" in str(error) or name in known else did_you_mean(name, known)


def model_facts(store: Store, name: str, version: int) -> dict[str, Any]:
    """The facts a model was built from, off its model.json; the weights stay where they are."""
    document = json.loads(store.read(f"models/{name}/{version}/model.json"))
    facts: dict[str, Any] = document["description"]["facts"]
    return facts


def _capacity(spec: EndpointSpec, capacity: Any) -> list[Complaint]:
    found = []
    for resource, key, each in (("CPU", "cpus", spec.replicas.cpus), ("GPU", "gpus", spec.replicas.gpus)):
        most = float(capacity.get(resource, 0))
        if spec.replicas.min * each > most:
            message = (
                f"{spec.replicas.min} replicas of {each:g} {resource} need {spec.replicas.min * each:g} {resource}"
            )
            found.append(Complaint(("replicas", key), message, f"at most {most:g} {resource} in all on this cluster"))
    return found
