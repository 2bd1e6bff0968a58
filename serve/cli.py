"""`equi deploy`, `endpoints`, `query`, `undeploy`."""

import contextlib
import io
import time
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import DEFAULT_STORE, DryRunOption, JsonOption, SetOption, StoreOption
from cluster.commands.runs import AddressOption, CpusOption, HomeOption, TokenOption, submit
from cluster.commands.terminal import show_json, show_table
from cluster.errors import ClusterError, ConflictError, NotFoundError, UserError
from cluster.head import Head, is_loopback
from cluster.run_control import stop_run
from cluster.runs import RunRecord, judge_run, load_run, new_run_id
from cluster.spec.load import load_spec
from cluster.store import Store, open_store
from serve.client import EndpointClient, first_token
from serve.ports import claim
from serve.record import EndpointRecord, list_records, load_record, mark_down

HOME = Path(".equi")
LOOK_EVERY_S = 0.5
PROBE_S = 2.0  # for an answer of each endpoint in the list
COLUMNS = ("endpoint", "state", "url", "model", "task", "run")


def deploy(
    spec: Annotated[Path, typer.Argument(help="A spec of kind endpoint, as YAML.", show_default=False)],
    overrides: SetOption = None,
    run_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id of the run; one that exists is refused.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    address: AddressOption = None,
    token_file: TokenOption = None,
    wait: Annotated[bool, typer.Option(help="Return when it answers; without, at once.")] = True,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    cpus: CpusOption = None,
    home: HomeOption = HOME,
) -> None:
    """Put a model online: a run that stays up, here in the background or on a cluster, until `equi undeploy`."""
    loaded = load_spec(spec, overrides or [])
    if loaded.kind != "endpoint":
        raise UserError(f"{spec} is a spec of kind {loaded.kind}; `equi submit` takes it", allowed="kind: endpoint")
    run_id = run_id or new_run_id("endpoint", loaded.spec.name)
    if address is None and not dry_run:
        claim(loaded.spec.http.host, loaded.spec.http.port)  # the driver looks too, but only once Ray is up
    with contextlib.ExitStack() as stack:
        if as_json and not dry_run:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # one JSON document is printed, below
        submit(spec, overrides, run_id, store, address, token_file, False, dry_run, as_json, cpus, home)
    if dry_run:
        return
    opened = open_store(store)
    if not wait:
        if as_json:
            show_json({"name": loaded.spec.name, "run_id": run_id})
        return
    try:
        record = _wait_until_up(opened, loaded.spec.name, run_id)
    except KeyboardInterrupt:
        typer.echo(f"no longer waited for; run {run_id} goes on. `equi stop {run_id}` ends it.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        show_json(record.model_dump(mode="json"))
    else:
        _say_up(record)


def endpoints(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List every endpoint of the store, and whether it answers from here."""
    opened = open_store(store)
    states = [(record, _state(record)) for record in list_records(opened)]
    if as_json:
        show_json([{**record.model_dump(mode="json"), "state": state} for record, state in states])
        return
    rows = [(r.name, state, r.url, f"{r.model} ({r.reference})", r.task, r.run_id) for r, state in states]
    show_table(COLUMNS, rows, nothing=f"no endpoints in {opened.uri}; `equi deploy SPEC` makes one")


def query(
    target: Annotated[str, typer.Argument(metavar="NAME|URL", help="An endpoint.", show_default=False)],
    structure: Annotated[
        Path | None, typer.Option("--structure", "-s", metavar="FILE", help="Structures to ask about: xyz, extxyz.")
    ] = None,
    body: Annotated[
        str | None, typer.Option("--body", metavar="JSON", help="The request as JSON, @FILE, or - for standard input.")
    ] = None,
    as_json: JsonOption = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            envvar="EQUI_ENDPOINT_TOKEN_FILE",
            metavar="FILE",
            help="File with a token of the endpoint; default: on this machine, the one it was deployed with.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Ask an endpoint: energies and forces of the structures in a file, or any request as JSON."""
    from serve.question import read_body, read_structures, show_energies  # ASE, which the other commands do without

    if (structure is None) == (body is None):
        raise UserError("nothing to ask, or two things", allowed="exactly one of --structure FILE and --body JSON")
    url, token, task = _reach(target, token_file, store)
    with EndpointClient(url, token=token) as client:
        if structure is not None:
            structures = read_structures(structure)
            answer = client.energy_forces(structures)
            if not as_json:
                show_energies(structures, answer)
                return
        else:
            request = read_body(body or "")
            answer = client.post(f"/v1/{task or client.model()['task']}", request)
    show_json(answer)


def undeploy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of an endpoint.", show_default=False)],
    store: StoreOption = DEFAULT_STORE,
    token_file: TokenOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take an endpoint offline by stopping its run. One whose run was killed is marked as down."""
    opened = open_store(store)
    record = load_record(opened, name)
    if dry_run:
        typer.echo(
            f"run {record.run_id} would be stopped, and endpoint {name} at {record.url} with it. Nothing was done."
        )
        return

    def reach(run: RunRecord) -> Head:
        if run.where.address is None:
            raise ClusterError(f"run {run.id} does not say on which cluster it is")
        return Head.reach(run.where.address, token_file)

    # It has ended already, or its record is gone: what is left to do is to say so.
    with contextlib.suppress(ConflictError, NotFoundError):
        stop_run(opened, record.run_id, head_of=reach)
    if load_record(opened, name).state == "up":
        mark_down(opened, name, record.run_id)
    if as_json:
        show_json(load_record(opened, name).model_dump(mode="json"))
    else:
        typer.echo(f"endpoint {name} is down")


def _wait_until_up(store: Store, name: str, run_id: str) -> EndpointRecord:
    """The record of the endpoint once the run has put it up. Raises ClusterError if the run ends before that."""
    while True:
        with contextlib.suppress(NotFoundError):
            record = load_record(store, name)
            if record.run_id == run_id and record.state == "up":
                return record
        run, verdict = judge_run(store, load_run(store, run_id))
        if run.is_over or verdict.status == "lost":
            reason = run.error.message if run.error else verdict.reason or verdict.status
            raise ClusterError(f"endpoint {name} did not come up: {reason}", hint=f"equi logs {run_id}")
        time.sleep(LOOK_EVERY_S)


def _state(record: EndpointRecord) -> str:
    """`down`; `up` if it answers; `no answer` if it should and does not, from this machine."""
    if record.state == "down":
        return "down"
    try:
        with EndpointClient(record.url, timeout_s=PROBE_S, retries=0) as client:
            client.health()
    except UserError:
        return "no answer"
    return "up"


def _reach(target: str, token_file: Path | None, store: str) -> tuple[str, str | None, str | None]:
    """URL, token and task of what the user named; the task is None for a URL."""
    if "://" in target:
        return target, first_token(token_file) if token_file else None, None
    record = load_record(open_store(store), target)
    # Whoever may write to the store could name any file and any server; to this machine only, no secret leaves it.
    file = token_file or (record.token_file if is_loopback(record.url) else None)
    return record.url, first_token(file) if file else None, record.task


def _say_up(record: EndpointRecord) -> None:
    guard = f" -H \"Authorization: Bearer $(grep -v '^#' {record.token_file} | head -1)\"" if record.token_file else ""
    typer.echo(f"endpoint {record.name} is up: {record.url} serves {record.model}")
    typer.echo(f"  curl -s {record.url}/v1/model{guard}")
    typer.echo(f"  pages: {record.url}/docs  {record.url}/openapi.json")
    typer.echo(f"  equi undeploy {record.name}   takes it offline")
