"""`equi store doctor`: whether a store keeps the promises that everything else relies on."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from cluster.commands.options import DEFAULT_STORE, JsonOption, StoreOption
from cluster.commands.terminal import show_json
from cluster.errors import UserError
from cluster.store import Store, open_store
from cluster.store.doctor import CHECKS, Finding, examine
from cluster.store.uploads import clean_uploads

SHOWN = 5  # names of removed uploads; the others are counted
UriArgument = Annotated[
    str | None, typer.Argument(metavar="[URI]", show_default=False, help="The store; without it, that of --store.")
]


def doctor(uri: UriArgument = None, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Try conditional writes, listings, ranged reads, transfers and Arrow in a folder of their own, which is removed.

    Each check is told as it ends: what the store cannot do, and what that would break. Uploads into the store that were
    begun more than a day ago and never finished are removed. Exit code 2 if the store fails any check.
    """
    opened = open_store(uri or store)
    findings = []
    if not as_json:
        typer.echo(f"{opened.uri}: {len(CHECKS)} checks")
    for finding in examine(opened):
        findings.append(finding)
        _tell(_lines(finding), aside=as_json)
    _tell(_cleaned(opened), aside=as_json)
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        typer.echo(_verdict(findings))
    if any(finding.problem for finding in findings):
        raise typer.Exit(UserError.exit_code)


def _tell(lines: Sequence[str], *, aside: bool) -> None:
    """Print, on standard error where standard output is for a program."""
    for line in lines:
        typer.echo(line, err=aside)


def _lines(finding: Finding) -> list[str]:
    outcome = "FAILS" if finding.problem else "kept"
    lines = [f"  {outcome:<5}  {finding.check:<42} {finding.seconds:6.1f} s"]
    if finding.problem:
        lines += [f"         {finding.problem}", f"         so {finding.breaks}"]
    if finding.note:
        lines += [f"         note: {finding.note}"]
    return lines


def _cleaned(store: Store) -> list[str]:
    """Remove old unfinished uploads; returns what there is to say about it."""
    try:
        removed = clean_uploads(store)
        left = len(store.unfinished())
    except UserError as error:
        return [f"  unfinished uploads cannot be looked for: {error.message}"]
    lines = []
    if removed:
        names = sorted({upload.key or upload.mark for upload in removed})
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines += [f"  removed what was left of uploads begun more than a day ago: {', '.join(names[:SHOWN])}{more}"]
    if left:
        lines += [f"  unfinished uploads of the last day, left alone since somebody may be at work: {left}"]
    return lines


def _verdict(findings: Sequence[Finding]) -> str:
    failed = sum(finding.problem is not None for finding in findings)
    return (
        f"{failed} of {len(findings)} checks failed: do not use this store."
        if failed
        else "The store keeps all that it must."
    )
