"""A self-contained HTML page: no script, no network, its figures inline; every text is escaped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5c6670; --line: #dfe3e7; --paper: #ffffff; --tile: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ea; --soft: #98a3ad; --line: #333b43; --paper: #14181c; --tile: #1d2328; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; font-weight: 600; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.1rem; font-weight: 600; margin: 2.6rem 0 .6rem; padding-top: 1.2rem;
     border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 44rem; }
.lead, .note, footer, dt { color: var(--soft); }
.note, footer { font-size: .88rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.6rem 0 0; }
.tile { background: var(--tile); border-radius: .5rem; padding: .8rem 1rem; }
.tile .label { font-size: .82rem; color: var(--soft); }
.tile .value { font-size: 1.4rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tile .aside { font-size: .82rem; color: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; }
svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; }
th:first-child, td:first-child { text-align: left; }
tr.best td { font-weight: 600; }
.prose td:last-child, .prose th:last-child { text-align: left; white-space: normal; min-width: 18rem; }
pre { background: var(--tile); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto; font-size: .84rem; }
footer { margin-top: 3rem; }
"""


class Markup(str):
    """HTML that is ready: made here or by matplotlib, never a user's text."""

    __slots__ = ()


@dataclass(frozen=True)
class Tile:
    """One headline figure: what it is, its value, and what to compare it with."""

    label: str
    value: str
    aside: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, a sentence about what is shown, and the thing itself."""

    title: str
    body: Markup
    note: str = ""


def page(title: str, lead: str, tiles: Sequence[Tile], sections: Iterable[Section], footer: str) -> str:
    """The whole document."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(lead)}</p>',
        _tiles(tiles),
        *(_section(section) for section in sections if section.body),
        f"<footer>{escape(footer)}</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Whatever a name in the data may hold, the page can neither run nor fetch anything.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], *, best: int | None = None, prose: bool = False
) -> Markup:
    """A table; floats to four digits, the row numbered `best` in bold. prose: the last column is text."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(
        ('<tr class="best">' if number == best else "<tr>")
        + "".join(f"<td>{escape(shown(cell))}</td>" for cell in row)
        + "</tr>\n"
        for number, row in enumerate(rows)
    )
    kind = ' class="prose"' if prose else ""
    return Markup(
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
    )


def figures(*drawn: str) -> Markup:
    """Figures of `jobs.report.figures` side by side; the empty ones are left out."""
    kept = [figure for figure in drawn if figure]
    return Markup(f'<div class="figures">{"".join(f"<div>{figure}</div>" for figure in kept)}</div>' if kept else "")


def preformatted(text: str) -> Markup:
    """Text as it stands."""
    return Markup(f"<pre>{escape(text)}</pre>" if text.strip() else "")


def shown(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def _tiles(tiles: Sequence[Tile]) -> str:
    cells = "".join(
        f'<div class="tile"><div class="label">{escape(tile.label)}</div><div class="value">{escape(tile.value)}</div>'
        f'<div class="aside">{escape(tile.aside)}</div></div>'
        for tile in tiles
    )
    return f'<div class="tiles">{cells}</div>' if cells else ""


def _section(section: Section) -> str:
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    return f"<section><h2>{escape(section.title)}</h2>{note}{section.body}</section>"
