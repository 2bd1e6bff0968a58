"""`equi validate`: whether a spec could be submitted, and if not, everything that is in the way."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.commands.options import JsonOption, SetOption
from cluster.commands.terminal import show_json
from cluster.spec.load import LoadedSpec, load_spec
from cluster.spec.problems import Problem, SpecError
from cluster.spec.secrecy import without_secrets


def validate(
    spec: Annotated[Path, typer.Argument(help="A spec, as YAML.", show_default=False)],
    overrides: SetOption = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", envvar="EQUI_STORE", metavar="URI", help="Look there too whether what the spec names exists."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a spec against its schema and its kind's own rules; nothing is started or written.

    Exit code 0 for a valid spec, 2 for one that is not.
    """
    try:
        loaded = load(spec, overrides or [], store)
    except SpecError as error:
        if not as_json:
            raise
        show_json({"valid": False, "problems": [_described(problem) for problem in error.problems]})
        raise typer.Exit(error.exit_code) from error
    if as_json:
        show_json({"valid": True, "kind": loaded.kind, "spec": without_secrets(loaded.resolved()), "problems": []})
    else:
        typer.echo(f"{spec} is a valid spec of kind {loaded.kind}. Nothing was submitted.")


def load(spec: Path, overrides: list[str], store: str | None) -> LoadedSpec:
    """The spec, checked against a store only where one is named: a spec may be written before its dataset."""
    if store is None:
        return load_spec(spec, overrides)
    from cluster.store import open_store  # Arrow, for those who need it

    return load_spec(spec, overrides, store=open_store(store))


def _described(problem: Problem) -> dict[str, Any]:
    place = asdict(problem.place)
    return {**place, **{name: value for name, value in asdict(problem).items() if name != "place"}}
