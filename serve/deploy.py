"""From an endpoint spec to an endpoint that answers: the runner of kind `endpoint`."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from cluster.context import RunContext
from cluster.errors import UserError
from cluster.registry import resolve
from cluster.spec.complaints import Surroundings
from serve import engine
from serve.check import check
from serve.client import EndpointClient
from serve.ports import url_of
from serve.record import EndpointRecord, mark_down, write_record
from serve.spec import EndpointSpec

UP_WITHIN_S = 180.0  # replicas import torch and fetch weights; a loaded 2-core machine took 40 s


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that answers."""

    name: str
    url: str
    model: str  # name@version
    task: str


def run(spec: EndpointSpec, context: RunContext, *, hold: bool = True) -> dict[str, Any]:
    """Deploy, and stay until the run is stopped; then take the endpoint down.

    The run is the endpoint: `equi stop` ends both, on this machine and on a cluster. hold False leaves the endpoint
    up and returns, as long as the cluster lives. Returns name, url, model, task.
    """
    endpoint = deploy(spec, context)
    if not hold:
        return asdict(endpoint)
    try:
        context.progress.say(f"{endpoint.url} serves {endpoint.model} until run {context.run_id} is stopped")
        _stay(spec.name, context)
    finally:
        withdraw(spec.name, context)
    return asdict(endpoint)


def deploy(spec: EndpointSpec, context: RunContext) -> Endpoint:
    """Deploy and return once the endpoint has answered a probe over HTTP.

    Raises UserError for what the spec asks and cannot have, and ClusterError if the port is in use (nothing was
    deployed then) or the replicas do not come up (they are removed again).
    """
    complaints = check(spec, Surroundings(context.store, context.session.capacity))
    if complaints:
        first = complaints[0]
        path = ".".join(str(part) for part in first.path)
        raise UserError(f"{path}: {first.message}", allowed=first.allowed, hint=first.hint)
    ref = resolve(context.store, spec.model)
    model = str(ref)
    host, port = engine.listen(spec, context.session)
    url = url_of(host, port, spec.http.prefix)
    with context.progress.task(f"endpoint {spec.name}", unit="replicas") as task:
        task.update(model=model, url=url)
        try:
            engine.submit(spec, store_uri=context.store.uri, model=model)
            engine.wait_until_running(spec.name, timeout_s=UP_WITHIN_S, stop=context.stop_requested)
            with EndpointClient(url, retries=30) as client:
                client.health()
        except BaseException:
            engine.remove(spec.name, context.session)
            raise
        task.advance(spec.replicas.min)
    write_record(
        context.store,
        EndpointRecord(
            name=spec.name,
            url=url,
            model=model,
            reference=spec.model,
            task=spec.task,
            run_id=context.run_id,
            state="up",
            token_file=str(spec.auth.token_file) if spec.auth else None,
            address=context.session.address,
            embedded=context.session.embedded,
            started=time.time(),
        ),
    )
    return Endpoint(spec.name, url, model, spec.task)


def withdraw(name: str, context: RunContext) -> None:
    """Take the endpoint down and write that down."""
    try:
        engine.remove(name, context.session)
    finally:
        mark_down(context.store, name, context.run_id)


def _stay(name: str, context: RunContext) -> None:
    """Until a stop is asked for. Says when the state of the endpoint changes; Ray Serve replaces dead replicas."""
    known, looked = "RUNNING", time.monotonic()
    while not context.stop_requested():
        time.sleep(0.3)
        if time.monotonic() - looked < 5:
            continue
        state, message = engine.state_of(name)
        if state != known:
            context.progress.say(f"endpoint {name}: {state.lower()} {message}".rstrip())
        known, looked = state, time.monotonic()
