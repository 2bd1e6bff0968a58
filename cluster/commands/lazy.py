"""Sub-commands that are imported when they are called: `equi --help` must not wait for Ray, Arrow or PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from cluster.front_door import resolve


@dataclass(frozen=True)
class Command:
    """A typer-annotated function, `module:name`, and its line in the list of commands."""

    function: str
    help: str
    panel: str | None = None  # heading under which it is listed


@dataclass(frozen=True)
class Group:
    """Commands behind a common word: `equi data ls`."""

    help: str
    commands: "Mapping[str, Command | Group]"
    panel: str | None = None


class LazyGroup(TyperGroup):
    """A group that knows the names and help lines of its commands and imports the one that is called."""

    def fill(self, table: Mapping[str, Command | Group]) -> None:
        """Make the commands of `table` known."""
        self.table = dict(table)
        for name, entry in table.items():
            self.add_command(_listed(name, entry))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that `args` begins with, loaded, and the rest of the arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = self.table.get(name or "")
        if name is not None and isinstance(entry, Command):
            command = load(name, entry)
        return name, command, rest


def load(name: str, entry: Command) -> TyperCommand:
    """The typer command made from the function that `entry` names."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=_settings())
    # The line of the table is also the head of the command's own help, unless its docstring tells more.
    function = resolve(entry.function)
    app.command(name, help=None if function.__doc__ else entry.help)(function)
    command: Any = typer.main.get_command(app)
    if not isinstance(command, TyperCommand):
        raise TypeError(f"typer made a {type(command).__name__} of {entry.function}")
    command.name = name
    # Help is plain text: Rich would take the [/path] of an address for a closing tag.
    described: list[Any] = [command, *command.params]
    for part in described:
        if getattr(part, "help", None):
            part.help = escape(part.help)
    return command


def _listed(name: str, entry: Command | Group) -> TyperCommand | LazyGroup:
    if isinstance(entry, Command):
        return TyperCommand(name, help=entry.help, short_help=entry.help, rich_help_panel=entry.panel)
    group = LazyGroup(
        name=name, help=entry.help, no_args_is_help=True, rich_help_panel=entry.panel, context_settings=_settings()
    )
    group.fill(entry.commands)
    return group


def _settings() -> dict[str, Any]:
    return {"help_option_names": ["-h", "--help"]}
