"""What every benchmark shares: rates side by side in interleaved rounds, the machine they were taken on, the files.

A claim is a ratio of two things that ran in turn, round by round, so a moment in which the machine is busy hits both;
the ratio is the median of those of the rounds. A benchmark asserts nothing: it says whether the goal was reached, and
how much of the machine others used meanwhile.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BUSY = 0.25  # cores that others use: with more of it, results are marked
_PACKAGES = ("torch", "numpy", "pyarrow", "ase", "vesin")
_PEERS = ("mosaicml-streaming", "webdataset", "lmdb", "ase-db-backends", "matscipy")
_MEASURED = ("cluster", "jobs", "equimodels")
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
    parser.add_argument("--patience", type=float, default=0, help="seconds to wait for moments without others' load")
    parser.add_argument("--out", type=Path, default=FOLDER / "results", help="folder of the results")
    for flag, settings in more:
        parser.add_argument(flag, **settings)
    options = parser.parse_args()
    if options.quick:
        options.rounds = min(options.rounds, 2)
    options.shares = []  # of the machine that others used, one a round
    return options


def in_turn(
    cases: Mapping[str, Callable[[], float]], options: argparse.Namespace, *, warm: int = 1
) -> dict[str, list[float]]:
    """The figure of each case in each round, after `warm` rounds that do not count.

    A figure that was taken while others used the machine is taken again, while there is patience.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    deadline = time.monotonic() + options.patience
    for turn in range(warm + options.rounds):
        for name, case in cases.items():
            while True:
                contention = Contention()
                figure, others = case(), contention.cores()
                if turn < warm or others < BUSY or time.monotonic() > deadline:
                    break
                while _others(0.5) > BUSY and time.monotonic() < deadline:
                    pass
            if turn >= warm:
                found[name].append(figure)
                options.shares.append(others)
    return found


def rate(epoch: Callable[[], Iterable[int]], seconds: float) -> float:
    """Rows a second of `epoch()`, whose items are the rows of each batch: whole epochs, until `seconds` are over."""
    rows, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        rows += sum(epoch())
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
    """How busy others keep the machine from the making of this object on."""

    def __init__(self) -> None:
        self._start, self._busy, self._own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        """Cores that others used on average: neither this process nor one that it started."""
        seconds = time.perf_counter() - self._start
        return max(0.0, (_busy_seconds() - self._busy - (_own_seconds() - self._own)) / seconds)


def _others(seconds: float) -> float:
    contention = Contention()
    time.sleep(seconds)
    return contention.cores()


def _busy_seconds() -> float:
    """Seconds that all processors were busy since the machine started, or taken away by its host."""
    times = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(times) - times[3] - times[4]) / _TICKS


def _own_seconds() -> float:
    """Processor seconds of this process and of those that it started, ended ones included."""
    processes = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # gone meanwhile
                words = (entry / "stat").read_text().rpartition(") ")[2].split()
                processes[int(entry.name)] = int(words[1]), sum(map(int, words[11:15]))
    ours, generation = 0, {os.getpid()}
    while generation:
        ours += sum(processes[number][1] for number in generation if number in processes)
        generation = {number for number, (parent, _) in processes.items() if parent in generation}
    return ours / _TICKS


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
        "versions": {name: found for name in (*_PACKAGES, *_PEERS) if (found := _version(name))},
    }


def commit() -> str | None:
    """The commit that is checked out, marked where a package of the project differs from it."""
    found = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "-uno", "--", *(str(FOLDER.parent / name) for name in _MEASURED))
    return f"{found} with changes" if found and changed else found


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", str(FOLDER), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def write(report: Report, options: argparse.Namespace) -> None:
    """The report as NAME.json and NAME.md in the folder of the results, and on the screen."""
    facts = {
        "machine": machine(),
        "commit": commit(),
        "taken": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": options.quick,
    }
    if options.shares:  # something was timed
        facts |= {
            "rounds": options.rounds,
            "load": round(os.getloadavg()[0], 2),
            "cores_used_by_others": round(statistics.median(options.shares), 2),
            "most_used_by_others": round(max(options.shares), 2),
            "contended": max(options.shares) > BUSY,
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
    command = f"python benchmarks/{report.name}.py{' --quick' if facts['quick'] else ''}"
    box = f"{where['processor']}, {where['cores']} cores, {where['memory_gib']} GiB, {where['system']}"
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    busy = ""
    if "rounds" in facts:
        used = f"others used {facts['cores_used_by_others']} cores meanwhile, {facts['most_used_by_others']} at most"
        others = f"{used} (load {facts['load']}, our own included)"
        busy = f"{facts['rounds']} rounds; {others}{': CONTENDED' if facts['contended'] else ''}.\n"
    lines = [
        f"# {report.title}",
        "",
        f"`{command}`, {facts['taken']}, commit {facts['commit']}.",
        f"{box}; Python {where['python']}, {versions}.",
        busy,
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
            cells = goal.what, f"{sign} {_cell(goal.wanted)}", _cell(goal.found), "yes" if goal.reached else "NO"
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
