"""How full batches of a budget of atoms are, shuffled as a reader shuffles: python benchmarks/packing.py [--quick]

Sizes are those of gdb1k (EQUI_BENCH_DATA; its 1,000 molecules as one row group) and of a synthetic distribution with a
long tail: log-normal around 25 atoms, cut at 200. Batches are consecutive stretches of the order of the epoch that fit
the budget (`jobs.data.batching`). Efficiency is the mean share of the budget that a batch fills; the last batch of
the data, which is whatever is left, does not count. Ten epochs of each.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Goal, Report, options_of, write
from numpy.typing import NDArray

from jobs.data.batching import Budget
from jobs.data.order import Order, epoch_order

BUDGETS = (256, 512, 1024, 2048, 4096)
GOAL, OF_GOAL = 0.9, 512
EPOCHS = 10


def gdb1k() -> NDArray[np.int64] | None:
    """Atoms of each molecule of gdb1k, from the counts lines of its SDF file; None where it is not there."""
    folder = os.environ.get("EQUI_BENCH_DATA")
    path = Path(folder) / "gdb1k" / "gdb1k.sdf" if folder else None
    if not (path and path.exists()):
        return None
    molecules = path.read_text().split("$$$$\n")
    return np.array([int(text.split("\n")[3][:3]) for text in molecules if text.strip()])


def long_tailed(count: int) -> NDArray[np.int64]:
    """Numbers of atoms, most between 10 and 60, one in a hundred above 130."""
    return np.clip(np.random.default_rng(0).lognormal(np.log(25), 0.7, count), 2, 200).astype(np.int64)


def batches(sizes: NDArray[np.int64], atoms: int, group: int) -> Iterator[NDArray[np.int64]]:
    """The sizes in each batch, epoch after epoch."""
    each = tuple(len(part) for part in np.array_split(sizes, max(1, len(sizes) // group)))
    cutter, left = Budget(atoms=atoms).cutter(1), np.empty(0, dtype=np.int64)
    for epoch in range(EPOCHS):
        stream = sizes[epoch_order(each, Order(seed=0), epoch)]
        cuts = cutter.cut(len(stream), {"atoms": stream})
        parts = np.split(stream, cuts)
        parts[0] = np.concatenate([left, parts[0]])
        yield from parts[:-1]
        left = parts[-1]


def packed(name: str, sizes: NDArray[np.int64], atoms: int, group: int) -> dict[str, Any]:
    """A row of the table."""
    found = list(batches(sizes, atoms, group))
    filled = np.array([part.sum() for part in found])
    return {
        "sizes": name,
        "budget, atoms": atoms,
        "efficiency": round(float(filled.mean() / atoms), 4),
        "least": round(float(filled.min() / atoms), 4),
        "most": round(float(filled.max() / atoms), 4),
        "samples of a batch": round(float(np.mean([len(part) for part in found])), 1),
        "batches": len(found),
    }


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__)
    molecules, synthetic = gdb1k(), long_tailed(5000 if options.quick else 100_000)
    table, notes = [], []
    if molecules is None:
        notes.append("gdb1k was left out: EQUI_BENCH_DATA is not set, or has none.")
    else:
        table += [packed("gdb1k", molecules, atoms, len(molecules)) for atoms in BUDGETS]
    table += [packed("long tail", synthetic, atoms, 2500) for atoms in BUDGETS]
    goals = [
        Goal(f"efficiency, {row['sizes']}, {OF_GOAL} atoms", row["efficiency"], GOAL)
        for row in table
        if row["budget, atoms"] == OF_GOAL
    ]
    fullest = max(row["most"] for row in table)
    report = Report(
        "packing",
        "Batches of a budget of atoms",
        {
            "gdb1k, atoms": "none" if molecules is None else f"{molecules.min()} to {molecules.max()}",
            "long tail, atoms": f"{synthetic.min()} to {synthetic.max()}, mean {synthetic.mean():.1f}",
        },
        tables={"Efficiency": table},
        goals=[*goals, Goal("fullest batch, of its budget (never above 1)", fullest, 1.0 + 1e-12, less=True)],
        notes=notes,
    )
    write(report, options)


if __name__ == "__main__":
    main()
