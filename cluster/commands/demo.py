"""`equi demo`: the whole way on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import DEFAULT_STORE, StoreOption
from cluster.errors import UserError


def demo(
    task: Annotated[str, typer.Option(help="ethanol (a potential) or digits (embeddings).")] = "ethanol",
    store: StoreOption = DEFAULT_STORE,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the endpoint up until Ctrl-C.")] = False,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when the process that started this one ends; for make.")
    ] = False,
) -> None:
    """Label or ingest real data, sweep, train with DeepSpeed, publish, deploy, and check through the endpoint."""
    from cluster.demo.plan import ABOUT, shipped_plan
    from cluster.demo.show import run_demo
    from cluster.driver import LOG_WIDTH
    from cluster.stopping import Stop, stop_with_parent

    if task not in ABOUT:
        raise UserError(f"there is no demo {task!r}", allowed=", ".join(ABOUT))
    if with_parent:
        stop_with_parent()
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    try:
        run_demo(shipped_plan(task), store, Path(".equi"), keep=keep, console=console)
    except Stop:
        console.print("stopped; nothing is left running, and everything on the store is complete")
        sys.exit(130)
