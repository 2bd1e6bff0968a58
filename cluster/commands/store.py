"""`equi store doctor`: whether a store keeps the promises that everything else relies on."""

import typer

from cluster.commands.options import DEFAULT_STORE, JsonOption, StoreOption
from cluster.commands.terminal import show_json, show_table
from cluster.errors import UserError
from cluster.store import open_store
from cluster.store.doctor import Finding, examine


def doctor(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Try conditional writes, listings, transfers and Arrow access in a folder of their own, which is removed.

    Exit code 2 if the store fails any of them.
    """
    findings = list(examine(open_store(store)))
    if as_json:
        show_json([{"check": f.check, "meaning": f.meaning, "problem": f.problem} for f in findings])
    else:
        show_table(("check", "outcome"), [(_sentence(f), f.problem or "kept") for f in findings], nothing="No checks.")
    if any(finding.problem for finding in findings):
        raise typer.Exit(UserError.exit_code)


def _sentence(finding: Finding) -> str:
    return finding.check.replace("_", " ")
