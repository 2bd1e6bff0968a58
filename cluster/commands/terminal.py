"""What a command prints: tables for people, JSON for programs, both on standard output."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

REDIRECTED_WIDTH = 1_000  # columns; a table takes what it needs of them


def show_json(value: Any) -> None:
    """Indented JSON, one document. Times become ISO 8601."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, nothing: str) -> None:
    """A table; the sentence `nothing` if there are no rows. Redirected, it is never cut to a terminal's width."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    if table.row_count == 0:
        typer.echo(nothing)
        return
    width = None if Console().is_terminal else REDIRECTED_WIDTH
    Console(markup=False, highlight=False, width=width).print(table)


def show_facts(facts: Mapping[str, Any], *, indent: int = 0) -> None:
    """Nested facts, one a line: names to the left, values aligned; empty ones are left out."""
    shown = {name: value for name, value in facts.items() if value not in (None, "", {}, [])}
    width = max((len(name) for name, value in shown.items() if not isinstance(value, Mapping)), default=0)
    for name, value in shown.items():
        if isinstance(value, Mapping):
            typer.echo(f"{' ' * indent}{name}")
            show_facts(value, indent=indent + 2)
        else:
            typer.echo(f"{' ' * indent}{name:<{width}}  {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(item)}" for name, item in value.items())
    return str(value)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
