"""`equi submit`, `runs`, `status`, `logs`, `stop`, `resume`: jobs, here and on a cluster."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import DEFAULT_STORE, DryRunOption, JsonOption, SetOption, StoreOption
from cluster.commands.terminal import show_facts, show_json, show_table
from cluster.errors import ClusterError, UserError
from cluster.front_door import KINDS
from cluster.head import Head
from cluster.run_control import resume_run, stop_run, submit_run
from cluster.run_following import follow_log, read_log
from cluster.run_view import COLUMNS, described, facts_of, progress_lines, read_progress, row_of
from cluster.runs import RunRecord, judge_run, key, list_runs, load_run
from cluster.session import MINIMUM_CPUS
from cluster.spec.load import LoadedSpec, load_spec
from cluster.spec.secrecy import without_secrets
from cluster.spec.writing import spec_text
from cluster.store import Store, open_store
from cluster.submission import warning_about

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run.", show_default=False)]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", envvar="EQUI_ADDRESS", metavar="URL", help="Head of a cluster, http://host:port; default: here."
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="EQUI_TOKEN_FILE", metavar="FILE", help="File with the cluster's token."),
]
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="EQUI_HOME", metavar="FOLDER", help="Tokens and logs of this machine.")
]
CpusOption = Annotated[
    int | None, typer.Option("--cpus", min=1, help="Logical CPUs of the embedded cluster; default: the cores.")
]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Show its output until it ends.")]
HOME = Path(".equi")


def submit(
    spec: Annotated[Path, typer.Argument(help="A spec, as YAML.", show_default=False)],
    overrides: SetOption = None,
    run_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id of the run; one that exists is refused.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    address: AddressOption = None,
    token_file: TokenOption = None,
    follow: FollowOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    cpus: CpusOption = None,
    home: HomeOption = HOME,
) -> None:
    """Run a spec of kind label, dataset, prepare, train, sweep or evaluate: here in the background, or on a cluster."""
    opened = open_store(store)
    head = Head.reach(address, token_file) if address else None
    loaded = load_spec(spec, overrides or [], store=opened, capacity=_capacity(head, cpus))
    _refuse_what_does_not_run(loaded)
    text = spec_text(loaded.resolved())
    if run_id is not None:
        key(run_id, "record.json")  # refuses what cannot be an id
    if dry_run:
        _show_plan(loaded, opened, head, as_json)
        return
    opened.check_writable()
    if head is not None and (warning := warning_about(opened, head)):
        typer.echo(f"warning: {warning}", err=True)
    name = str(getattr(loaded.spec, "name", "") or loaded.kind)
    record = submit_run(opened, kind=loaded.kind, name=name, spec=text, run_id=run_id, head=head, home=home, cpus=cpus)
    if as_json:
        show_json(record.model_dump(mode="json"))
    else:
        _say_submitted(record)
    if follow:
        _follow(opened, record, home, _head_of(token_file))


def runs(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List every run of the store, the newest first, and how it ended."""
    opened = open_store(store)
    judged = [judge_run(opened, record) for record in list_runs(opened)]
    if as_json:
        show_json([described(record, verdict) for record, verdict in judged])
    else:
        rows = [row_of(record, verdict) for record, verdict in judged]
        show_table(COLUMNS, rows, nothing=f"no runs in {opened.uri}")


def status(run: RunArgument, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show one run: state, progress, outputs, error, and where its log is."""
    opened = open_store(store)
    record, verdict = judge_run(opened, load_run(opened, run))
    progress = read_progress(opened, run)
    if as_json:
        show_json({**described(record, verdict), "progress": progress})
        return
    show_facts(facts_of(opened, record, verdict))
    for line in progress_lines(progress):
        typer.echo(f"  {line}")


def logs(
    run: RunArgument,
    store: StoreOption = DEFAULT_STORE,
    token_file: TokenOption = None,
    follow: FollowOption = False,
    home: HomeOption = HOME,
) -> None:
    """Print what a run has said; -f goes on until it ends."""
    opened = open_store(store)
    record = load_run(opened, run)
    if follow:
        _follow(opened, record, home, _head_of(token_file))
    else:
        typer.echo(read_log(opened, record, home=home, head_of=_head_of(token_file)), nl=False)


def stop(
    run: RunArgument,
    store: StoreOption = DEFAULT_STORE,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a run; what it has finished stays, and `equi resume` goes on from there."""
    record = stop_run(open_store(store), run, head_of=_head_of(token_file))
    if as_json:
        show_json(record.model_dump(mode="json"))
    else:
        typer.echo(f"run {run} {'was stopped' if record.status == 'stopped' else f'has {record.status}'}")


def resume(
    run: RunArgument,
    store: StoreOption = DEFAULT_STORE,
    token_file: TokenOption = None,
    follow: FollowOption = False,
    as_json: JsonOption = False,
    cpus: CpusOption = None,
    home: HomeOption = HOME,
) -> None:
    """Start the next attempt of a run that failed, was stopped or was lost."""
    opened = open_store(store)
    record = resume_run(opened, run, head_of=_head_of(token_file), home=home, cpus=cpus)
    if as_json:
        show_json(record.model_dump(mode="json"))
    else:
        typer.echo(f"run {run} goes on: attempt {record.attempt}")
    if follow:
        _follow(opened, record, home, _head_of(token_file))


def _follow(store: Store, record: RunRecord, home: Path, head_of: Callable[[RunRecord], Head]) -> None:
    """Stream the log; exit code 1 for a run that does not succeed. Ctrl-C ends the following, not the run."""
    try:
        for piece in follow_log(store, record, home=home, head_of=head_of):
            typer.echo(piece, nl=False)
    except KeyboardInterrupt:
        typer.echo(f"\nno longer followed; run {record.id} goes on. `equi stop {record.id}` stops it.", err=True)
        raise typer.Exit(130) from None
    record, verdict = judge_run(store, load_run(store, record.id))
    if verdict.status == "lost":
        typer.echo(f"run {record.id} is lost: {verdict.reason}", err=True)
    if verdict.status != "succeeded":
        raise typer.Exit(1)


def _head_of(token_file: Path | None) -> Callable[[RunRecord], Head]:
    def reach(record: RunRecord) -> Head:
        if record.where.address is None:
            raise ClusterError(f"run {record.id} does not say on which cluster it is")
        return Head.reach(record.where.address, token_file)

    return reach


def _capacity(head: Head | None, cpus: int | None) -> dict[str, float] | None:
    """The most that the cluster can ever have; None where that is not known."""
    if head is not None:
        return head.capacity()
    gpus = sum(1 for device in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", device.name))
    return {"CPU": float(cpus or max(MINIMUM_CPUS, os.cpu_count() or 1)), "GPU": float(gpus)}


def _refuse_what_does_not_run(loaded: LoadedSpec) -> None:
    if KINDS[loaded.kind].runner is None:
        command = {"endpoint": "equi deploy", "cluster": "equi cluster render"}.get(loaded.kind, "another command")
        runnable = ", ".join(name for name, kind in KINDS.items() if kind.runner)
        raise UserError(
            f"a spec of kind {loaded.kind} is not run as a job; `{command}` takes it. Nothing was submitted.",
            allowed=runnable,
        )


def _show_plan(loaded: LoadedSpec, store: Store, head: Head | None, as_json: bool) -> None:
    place = head.address if head else "here"
    shown = without_secrets(loaded.resolved())
    if as_json:
        show_json({"dry_run": True, "kind": loaded.kind, "store": store.uri, "where": place, "spec": shown})
        return
    typer.echo(spec_text(shown), nl=False)
    typer.echo(f"# a run of kind {loaded.kind} would be started {'on ' if head else ''}{place}, with the store")
    typer.echo(f"# {store.uri}. Nothing was submitted.")


def _say_submitted(record: RunRecord) -> None:
    place = f"on {record.where.address}" if record.where.address else "in the background of this machine"
    typer.echo(f"run {record.id} was submitted, {place}")
    for command, what in (("logs -f", "its output"), ("status", "how far it is"), ("stop", "end it")):
        typer.echo(f"  equi {command:<7} {record.id}   {what}")
