"""`equi schema`: what a kind of spec may contain, for editors and for other programs."""

from typing import Annotated

import typer

from cluster.commands.options import JsonOption
from cluster.commands.terminal import show_json, show_table
from cluster.errors import UserError
from cluster.front_door import KINDS
from cluster.spec.reference import reference
from cluster.spec.wording import nearest


def schema(
    kind: Annotated[str | None, typer.Argument(help="A kind of spec; without it, all are listed.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A table for people: every setting, what it may be, its default.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON schema of a kind of spec, or list the kinds."""
    if kind is None:
        if as_json:
            show_json({name: entry.help for name, entry in KINDS.items()})
        else:
            show_table(("kind", "is"), [(name, entry.help) for name, entry in KINDS.items()], nothing="no kinds")
        return
    if kind not in KINDS:
        match = nearest(kind, KINDS)
        hint = f"did you mean {match!r}?" if match else None
        raise UserError(f"there is no kind of spec called {kind!r}", allowed=", ".join(KINDS), hint=hint)
    if markdown:
        typer.echo(reference(KINDS[kind].model()), nl=False)
        return
    show_json(KINDS[kind].model().model_json_schema(by_alias=True))
