"""What a windowed shuffle loses against a full permutation: python benchmarks/shuffle_quality.py [--quick]

The worst case: rows lie sorted by class, ten classes, as a dataset converted class by class. Per window: how mixed a
batch of 64 is (entropy of its classes, in bits; a full permutation is the best there is, and lies below log2(10) as 64
samples are few) and how much the order still knows of the order on disk: the rank correlation of a sample's place in
the epoch with its place on disk, and that within stretches of the epoch as long as a window (for the permutation, as
long as 8 groups), absolute values averaged. Positions only: nothing is read.
"""

from statistics import mean
from typing import Any

import numpy as np
from measuring import Report, options_of, write
from numpy.typing import NDArray

from jobs.data.order import Order, epoch_order

CLASSES, BATCH = 10, 64
WINDOWS = (1, 2, 4, 8, 16, 32)


def entropy(labels: NDArray[np.int64]) -> float:
    """Mean entropy in bits of the classes of a batch; labels (n,) in the order of the epoch."""
    batches = labels[: len(labels) // BATCH * BATCH].reshape(-1, BATCH)
    share = np.stack([(batches == label).mean(axis=1) for label in range(CLASSES)])
    return float(-(share * np.log2(np.where(share, share, 1.0))).sum(axis=0).mean())


def correlation(order: NDArray[np.int64]) -> float:
    """Rank correlation of the place in the order with the row, (n,) distinct rows."""
    ranks = np.argsort(np.argsort(order))
    return float(np.corrcoef(np.arange(len(order)), ranks)[0, 1])


def quality(orders: list[NDArray[np.int64]], labels: NDArray[np.int64], stretch: int) -> dict[str, Any]:
    """A row of the table: averages over epochs."""
    parts = [order[at : at + stretch] for order in orders for at in range(0, len(order) - stretch + 1, stretch)]
    return {
        "entropy of a batch, bits": round(mean(entropy(labels[order]) for order in orders), 3),
        "correlation, epoch": round(mean(abs(correlation(order)) for order in orders), 4),
        "correlation, stretch": round(mean(abs(correlation(part)) for part in parts), 4),
    }


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__)
    groups, rows, epochs = (32, 64, 2) if options.quick else (64, 1000, 10)
    each = (rows,) * groups
    labels = np.arange(groups * rows) * CLASSES // (groups * rows)
    table = []
    for window in WINDOWS:
        orders = [epoch_order(each, Order(seed=0, window=window), epoch) for epoch in range(epochs)]
        table.append({"window, groups": str(window), **quality(orders, labels, rows * window)})
    random = np.random.default_rng(0)
    whole = [random.permutation(groups * rows) for _ in range(epochs)]
    table.append({"window, groups": "full permutation", **quality(whole, labels, rows * 8)})
    report = Report(
        "shuffle_quality",
        "What a windowed shuffle loses",
        {"row groups": groups, "rows of a group": rows, "classes, sorted": CLASSES, "batch": BATCH, "epochs": epochs},
        tables={"Quality by window": table},
        notes=[
            "A class is 6.4 row groups long: a window of 8 visits row groups of about 5.7 classes at random.",
        ],
    )
    write(report, options)


if __name__ == "__main__":
    main()
