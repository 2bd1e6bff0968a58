"""Ray Data against plain Ray tasks for a preparation with neighbour lists: python benchmarks/prepare_ray_data.py

20,000 structures (16 to 47 atoms), cutoff 5 A; every row group is read, searched and staged by the same code. Plain
tasks are those of an ingest (`jobs.ingest.schedule`). Each measurement has a new embedded session of 2 CPUs, whose own
start does not count; it is taken twice in it, since the first time processes start and import as well.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Report, in_turn, options_of, write
from synthetic import publish_structures, structures

from cluster.dataset.dataset import open_dataset
from cluster.session import open_session
from cluster.store import Store, open_store
from jobs.ingest.schedule import on_ray
from jobs.prepare.flow import on_ray_data
from jobs.prepare.group import Done, Preparation, Work
from jobs.spec.frozen import Component
from jobs.spec.prepare import PrepareWorkers

CUTOFF = 5.0
Flow = Callable[[Work, list[int]], Iterator[Any]]


def through_ray_data(work: Work, numbers: list[int]) -> Iterator[Any]:
    """As a run does it."""
    return on_ray_data(work, numbers, PrepareWorkers(), False, lambda: False)


def prepare_one(work: Work, number: int) -> Done:
    """A task of its own."""
    return Preparation(work).prepare(number)


def as_plain_tasks(work: Work, numbers: list[int]) -> Iterator[Any]:
    """One Ray task a row group."""
    return on_ray(prepare_one, [(work, number) for number in numbers], lambda: False)


def measured(flow: Flow, store: Store, figures: dict[str, list[float]], name: str) -> float:
    """Total seconds in a new session; adds to `figures` what was found the first and the second time."""
    numbers = list(range(len(open_dataset("structures", store=store).groups())))
    steps = (Component(name="neighbours", params={"cutoff": CUTOFF}),)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as home, open_session(home=Path(home), cpus=2):
        for turn in ("new session", "same session again"):
            work = Work(store.uri, f"bench-{time.time_ns()}", "structures@1", f"{time.time_ns()}", steps, True)
            start, first = time.perf_counter(), 0.0
            done = 0
            for _ in flow(work, numbers):
                done += 1
                first = first or time.perf_counter() - start
            total = time.perf_counter() - start
            if done != len(numbers):
                raise RuntimeError(f"{done} of {len(numbers)} row groups came back")
            figures.setdefault(f"{name}, {turn}: first row group, s", []).append(first)
            figures.setdefault(f"{name}, {turn}: all, s", []).append(total)
            store.delete_folder(f"runs/{work.run}")
    return time.perf_counter() - begun


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__)
    count = 5000 if options.quick else 20_000
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        publish_structures(store, structures(count))
        groups = len(open_dataset("structures", store=store).groups())
        figures: dict[str, list[float]] = {}
        cases = {"Ray Data": through_ray_data, "plain tasks": as_plain_tasks}
        in_turn({n: lambda f=f, n=n: measured(f, store, figures, n) for n, f in cases.items()}, options, warm=0)
    table = []
    for name in cases:
        for turn in ("new session", "same session again"):
            first, total = (median(figures[f"{name}, {turn}: {what}, s"]) for what in ("first row group", "all"))
            table.append(
                {
                    "case": f"{name}, {turn}",
                    "first row group, s": round(first, 2),
                    "all, s": round(total, 2),
                    "rows/s": round(count / total),
                }
            )
    settings = {"structures": count, "row groups": groups, "cutoff, angstrom": CUTOFF, "CPUs of the session": 2}
    report = Report("prepare_ray_data", "Preparation through Ray Data", settings, tables={"Both ways": table})
    write(report, options)


if __name__ == "__main__":
    main()
