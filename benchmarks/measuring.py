"""What every benchmark shares: rates side by side in interleaved rounds, the machine they were taken on, the files.

A claim is a ratio of two things that ran in turn, round by round, so a moment in which the machine is busy hits both;
the ratio is the median of those of the rounds. A benchmark asserts nothing: it says whether the goal was reached, and
how much of the machine others used meanwhile.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BUSY = 0.25  # cores that others use: with more of it, results are marked
_VERSIONS = ("torch", "numpy", "pyarrow", "ase", "mosaicml-streaming", "webdataset", "lmdb", "ase-db-backends", "matscipy", "vesin")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Goal:
    """`found` was to be at least `wanted`, or less than it."""

    what: str
    found: float
    wanted: float
    less: bool = False

    @property
    def reached(self) -> bool:
        """Whether it is so."""
        return self.found < self.wanted if self.less else self.found >= self.wanted


@dataclass
class Report:
    """What one benchmark found. rows: of one table each, by name; all rows of a table have the same keys."""

    name: str
    title: str
    settings: Mapping[str, Any]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def options_of(description: str | None, *more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """The command line of a benchmark: --quick, --rounds, --out, and `more` of its own."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds: fewer rows and rounds")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds of each, interleaved")
    parser.add_argument("--out", type=Path, default=FOLDER / "results", help="folder of the results")
    for flag, settings in more:
        parser.add_argument(flag, **settings)
    options = parser.parse_args()
    if options.quick:
        options.rounds = min(options.rounds, 2)
    return options


def in_turn(cases: Mapping[str, Callable[[], float]], rounds: int, *, warm: int = 1) -> dict[str, list[float]]:
    """The figure of each case in each round, after `warm` rounds that do not count."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + warm):
        for name, case in cases.items():
            figure = case()
            if turn >= warm:
                found[name].append(figure)
    return found


def rate(epoch: Callable[[], Iterable[int]], seconds: float) -> float:
    """Rows a second of `epoch()`, whose items are the rows of each batch, from the call that begins it.

    Goes through whole epochs until `seconds` are over; one that lasts more than twice that is left.
    """
    rows, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        for count in epoch():
            rows += count
            if time.perf_counter() > start + 2 * seconds:
                break
    return rows / (time.perf_counter() - start)


def ratio(figures: Mapping[str, list[float]], first: str, second: str) -> float:
    """How much larger the first is: the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(figures[first], figures[second], strict=True))


def spread(figures: Mapping[str, list[float]], against: str, *, digits: int = 0) -> list[dict[str, Any]]:
    """A row for each case: median, least and most of its figures, and how large it is beside `against`."""
    return [
        {
            "case": name,
            "median": round(statistics.median(found), digits),
            "min": round(min(found), digits),
            "max": round(max(found), digits),
            f"of {against}": float(f"{ratio(figures, name, against):.3g}"),
        }
        for name, found in figures.items()
    ]


class Contention:
    """How busy others keep the machine from the making of this object on: `cores()` on average."""

    def __init__(self) -> None:
        self.load = os.getloadavg()[0]
        self._start, self._busy, self._own = time.perf_counter(), *_processor_seconds()

    def cores(self) -> float:
        """Cores that neither this process nor a child that has ended used."""
        busy, own = _processor_seconds()
        seconds = time.perf_counter() - self._start
        return max(0.0, (busy - self._busy - (own - self._own)) / seconds)


def _processor_seconds() -> tuple[float, float]:
    """Seconds that all processors were busy, stolen time included, and those of this process and its ended children."""
    times = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = times[3] + times[4]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (sum(times) - idle) / _TICKS, sum(one.ru_utime + one.ru_stime for one in used)


def machine() -> dict[str, Any]:
    """The processor, its cores, memory, system and the versions that matter."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in _VERSIONS if (found := _version(name))},
    }


def commit() -> str | None:
    """The commit that is checked out, marked where a package of the project differs from it."""
    found = _git("rev-parse", "HEAD")
    return f"{found} with changes" if found and _git("status", "--porcelain", "-uno", "--", "cluster", "jobs", "equimodels") else found


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", str(FOLDER), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def write(report: Report, options: argparse.Namespace, contention: Contention) -> None:
    """The report as NAME.json and NAME.md in the folder of the results, and on the screen."""
    others = contention.cores()
    facts = {
        "machine": machine(),
        "commit": commit(),
        "taken": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": options.quick,
        "rounds": options.rounds,
        "load_at_start": round(contention.load, 2),
        "cores_used_by_others": round(others, 2),
        "contended": contention.load > 1 or others > BUSY,
    }
    goals = [{**asdict(goal), "reached": goal.reached} for goal in report.goals]
    content = {"benchmark": report.name, **facts, "settings": report.settings, "tables": report.tables, "goals": goals}
    text = _markdown(report, facts)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{report.name}.json").write_text(json.dumps({**content, "notes": report.notes}, indent=2) + "\n")
    (options.out / f"{report.name}.md").write_text(text)
    sys.stdout.write(text)


def _markdown(report: Report, facts: Mapping[str, Any]) -> str:
    where = facts["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    busy = f"load {facts['load_at_start']} at the start, others used {facts['cores_used_by_others']} cores"
    lines = [
        f"# {report.title}",
        "",
        f"`python benchmarks/{report.name}.py{' --quick' if facts['quick'] else ''}`, {facts['taken']}, commit {facts['commit']}.",
        f"{where['processor']}, {where['cores']} cores, {where['memory_gib']} GiB, {where['system']}, "
        f"Python {where['python']}; {versions}.",
        f"{facts['rounds']} interleaved rounds; {busy}{': CONTENDED' if facts['contended'] else ''}.",
        "",
        "; ".join(f"{name}: {value}" for name, value in report.settings.items()) + ".",
    ]
    for name, rows in report.tables.items():
        columns = list(rows[0])
        lines += ["", f"## {name}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    if report.goals:
        lines += ["", "## Goals", "", "| goal | wanted | found | reached |", "|---|---|---|---|"]
        for goal in report.goals:
            sign = "<" if goal.less else ">="
            lines.append(f"| {goal.what} | {sign} {_cell(goal.wanted)} | {_cell(goal.found)} | {'yes' if goal.reached else 'NO'} |")
    lines += ["", *(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
