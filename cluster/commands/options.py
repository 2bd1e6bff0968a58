"""Options that many commands share, so that they are spelled, explained and defaulted once."""

from typing import Annotated

import typer

DEFAULT_STORE = ".equi/store"

StoreOption = Annotated[
    str,
    typer.Option(
        "--store", envvar="EQUI_STORE", metavar="URI", help="Where everything is kept: a folder or s3://bucket/prefix."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a setting of the spec; C is YAML. May be repeated."),
]
