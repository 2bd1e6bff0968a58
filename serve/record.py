"""Endpoints on the store, `endpoints/<name>/record.json`: where each is, and what it serves. Never a token."""

import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cluster.errors import NotFoundError
from cluster.spec.wording import did_you_mean
from cluster.store import Store, read_json, swap_json
from serve.spec import Task


class EndpointRecord(BaseModel):
    """What is known of an endpoint after the process that deployed it has gone."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer version may have written more

    name: str
    url: str
    model: str  # name@version, resolved when it was deployed
    reference: str  # as the spec says, perhaps an alias
    task: Task
    run_id: str
    state: Literal["up", "down"]  # as told by the process that deployed it; a killed one cannot say "down"
    token_file: str | None = None
    address: str = ""  # of the Ray cluster
    embedded: bool = True  # the endpoint lives no longer than its run
    started: float = 0.0  # seconds since the epoch
    ended: float | None = None


def key(name: str) -> str:
    """Where the record of endpoint `name` is."""
    return f"endpoints/{name}/record.json"


def write_record(store: Store, record: EndpointRecord) -> None:
    """Write the record in place of an older one: the newest deployment of a name counts."""
    swap_json(store, key(record.name), lambda _: record.model_dump(mode="json"))


def load_record(store: Store, name: str) -> EndpointRecord:
    """The record of endpoint `name`. Raises NotFoundError, with the nearest name."""
    try:
        return EndpointRecord.model_validate(read_json(store, key(name)))
    except NotFoundError:
        known = store.children("endpoints")
        raise NotFoundError(
            f"no endpoint is called {name!r}{did_you_mean(name, known)}",
            allowed=", ".join(known) or None,
            hint="equi endpoints lists them; equi deploy SPEC makes one.",
        ) from None


def list_records(store: Store) -> list[EndpointRecord]:
    """All endpoints that were ever deployed, by name."""
    return [load_record(store, name) for name in store.children("endpoints")]


def mark_down(store: Store, name: str, run_id: str) -> None:
    """Say that the endpoint is gone, unless a newer run has deployed the name again meanwhile."""

    def change(document: dict[str, Any] | None) -> dict[str, Any]:
        if document is None or document.get("run_id") != run_id:
            return document or {}
        return {**document, "state": "down", "ended": time.time()}

    if store.exists(key(name)):
        swap_json(store, key(name), change)
