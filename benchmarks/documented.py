"""Tables of the results in the pages of docs/: `python benchmarks/documented.py` writes them anew.

A page says where: everything between `<!-- measured: NAME -->` and `<!-- end -->` is made from `results/NAME.json`.
There may be several names; one with a star stands for all that fit. A unit test compares the pages with the results.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
DOCS = FOLDER.parent / "docs"
_BLOCK = re.compile(r"(<!-- measured: ([\w* ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOTHING = "Not measured yet.\n"


def documented(text: str, results: Path) -> str:
    """The page with its tables as the results have them."""
    return _BLOCK.sub(lambda found: found[1] + _tables(results, found[2]) + found[3], text)


def pages() -> list[Path]:
    """The pages that have such tables."""
    return [path for path in sorted(DOCS.rglob("*.md")) if _BLOCK.search(path.read_text(encoding="utf-8"))]


def _tables(results: Path, names: str) -> str:
    paths = [path for pattern in names.split() for path in sorted(results.glob(f"{pattern}.json"))]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in dict.fromkeys(paths)]
    return "\n".join(_benchmark(content) for content in found) or NOTHING


def _benchmark(content: Mapping[str, Any]) -> str:
    machine, name = content["machine"], content["benchmark"]
    where = f"{machine['processor']}, {machine['cores']} cores"
    contended = "; other work ran beside it" if content.get("contended") else ""
    lines = [
        f"### {name.removeprefix('training_').replace('_', ' ').capitalize()}",
        "",
        f"`benchmarks/{name}.py`, {content['taken']}, commit {str(content['commit'])[:7]}; {where}{contended}.",
        "",
    ]
    for title, rows in content["tables"].items():
        if rows:
            columns = list(rows[0])
            lines += [f"**{title}**", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
            lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows] + [""]
    if content.get("goals"):
        lines += ["| goal | wanted | found | reached |", "|---|---|---|---|"]
        for goal in content["goals"]:
            wanted = f"{'below' if goal['less'] else 'at least'} {_cell(goal['wanted'])}"
            cells = goal["what"], wanted, _cell(goal["found"]), "yes" if goal["reached"] else "no"
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [f"- {note}" for note in content.get("notes", [])] + ([""] if content.get("notes") else [])
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value).replace("|", "\\|")


def main() -> None:
    """Write every page that has tables."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        new = documented(text, FOLDER / "results")
        if new != text:
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(FOLDER.parent)}\n")


if __name__ == "__main__":
    main()
