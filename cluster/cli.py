"""The command line `equi`: one table of commands, and how each way of ending becomes an exit code.

0 done · 1 our fault, with a traceback · 2 the user can put it right, without one · 130 interrupted
"""

import sys
from typing import Annotated, Any, NoReturn

import typer

from cluster.commands.lazy import Command, Group, LazyGroup
from cluster.errors import UserError

START = "Start"
JOBS = "Jobs"
RESULTS = "Results"
OPERATE = "Operate"

COMMANDS: dict[str, Command | Group] = {
    "demo": Command("cluster.commands.demo:demo", "The whole way on this machine: label, sweep, train, deploy.", START),
    "validate": Command("cluster.commands.validate:validate", "Check a spec; nothing is started or written.", START),
    "schema": Command("cluster.commands.schema:schema", "The JSON schema of a kind of spec.", START),
    "submit": Command("cluster.commands.runs:submit", "Run a spec, here or on a cluster.", JOBS),
    "runs": Command("cluster.commands.runs:runs", "Every run of the store and how it ended.", JOBS),
    "status": Command("cluster.commands.runs:status", "One run: state, progress, outputs, error.", JOBS),
    "logs": Command("cluster.commands.runs:logs", "What a run has printed; -f follows it.", JOBS),
    "stop": Command("cluster.commands.runs:stop", "Stop a run; what it has finished stays.", JOBS),
    "resume": Command("cluster.commands.runs:resume", "Go on with a run that ended early.", JOBS),
    "export": Command("jobs.state.cli:export", "The weights of a checkpoint as a model folder.", JOBS),
    "report": Command("jobs.report.cli:report", "A self-contained HTML page about a run.", JOBS),
    "data": Group(
        "Datasets: label, ingest, list, verify, sweep.",
        {
            "label": Command("cluster.commands.runs:submit", "Run a spec of kind label."),
            "ingest": Command("cluster.commands.runs:submit", "Run a spec of kind dataset."),
            "prepare": Command("cluster.commands.runs:submit", "Run a spec of kind prepare."),
            "ls": Command("cluster.commands.datasets:list_all", "Every dataset of the store."),
            "show": Command("cluster.commands.datasets:show", "The manifest of a dataset."),
            "verify": Command("cluster.commands.datasets:verify", "Read a dataset again and compare every digest."),
            "sweep": Command("cluster.commands.datasets:sweep", "Remove files that no version of a dataset needs."),
        },
        RESULTS,
    ),
    "models": Command("cluster.commands.models:models", "Every model of the registry.", RESULTS),
    "show": Command("cluster.commands.models:show", "The manifest of a model.", RESULTS),
    "promote": Command("cluster.commands.models:promote", "Let an alias mean another version.", RESULTS),
    "rollback": Command("cluster.commands.models:rollback", "Let an alias mean what it meant before.", RESULTS),
    "deploy": Command("serve.cli:deploy", "Put a model online.", RESULTS),
    "endpoints": Command("serve.cli:endpoints", "Every endpoint and its state.", RESULTS),
    "query": Command("serve.cli:query", "Ask an endpoint.", RESULTS),
    "undeploy": Command("serve.cli:undeploy", "Take an endpoint offline.", RESULTS),
    "cluster": Group(
        "Clusters: manifests from a spec.",
        {
            "render": Group(
                "Manifests of a cluster, to read or to apply.",
                {"kuberay": Command("cluster.commands.cluster:kuberay", "Kubernetes manifests for KubeRay.")},
            )
        },
        OPERATE,
    ),
    "store": Group(
        "The object store.",
        {"doctor": Command("cluster.commands.store:doctor", "Whether a store keeps what everything relies on.")},
        OPERATE,
    ),
    "dashboards": Group(
        "Grafana dashboards from the table of metrics.",
        {
            "render": Command("cluster.commands.dashboards:render", "Write the dashboards as JSON files."),
            "push": Command("cluster.commands.dashboards:push", "Send the dashboards to a Grafana server."),
        },
        OPERATE,
    ),
}

app = typer.Typer(
    name="equi",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"equimodels {version('equimodels')}")
        raise typer.Exit()


@app.callback()
def equi(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """From raw structures to an online endpoint: datasets, sweeps, DeepSpeed training, registry, serving, on Ray."""


def command() -> Any:
    """The command line as one object with every sub-command in it, none of them imported."""
    group = typer.main.get_command(app)
    if not isinstance(group, LazyGroup):
        raise TypeError(f"typer made a {type(group).__name__} of a group")
    group.fill(COMMANDS)
    return group


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script. arguments: default those of the process. Always ends in SystemExit or in our own fault."""
    try:
        command().main(args=arguments, prog_name="equi")
    except UserError as error:
        typer.echo(str(_original(error)), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _original(error: UserError) -> UserError:
    """The error itself, if Ray carried it over from another process and put its own text around it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, UserError) else error
