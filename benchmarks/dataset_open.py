"""Opening 10 million rows in 2,000 shards, and going on in the middle: python benchmarks/dataset_open.py [--quick]

The manifest is synthetic: 2,000 shards of 16 row groups with digests, byte ranges and checksums, as structures of 260
atoms would have them; the shards themselves are not there. Each figure is that of a fresh process. `open` is the
seconds of `open_dataset` and `groups`, `imports` those of importing it before. `memory` is the most the process ever
held, Python and imports included. `resume` is the seconds from a state at a random sample to the row numbers of the
window that the sample is in, in the order in which they come: all that a reader does before it fetches.
"""

import json
import random
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from hashlib import sha256
from statistics import median
from typing import Any

from measuring import Contention, Goal, Report, options_of, write

from cluster.dataset.columns import type_name
from cluster.dataset.manifest import Column, DatasetManifest, Group, Shard
from cluster.dataset.schema import STRUCTURES
from cluster.names import manifest_key
from cluster.store import open_store

ROWS, SHARDS, GROUPS = 10_000_000, 2000, 16
ROW_BYTES = 12_750
OPEN = """
import json, resource, sys, time
start = time.perf_counter()
from cluster.dataset.dataset import open_dataset
imported = time.perf_counter()
groups = open_dataset(sys.argv[1]).groups("train")
done = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"imports": imported - start, "open": done - imported, "memory": peak, "groups": len(groups)}))
"""
RESUME = """
import json, sys, time
from cluster.dataset.dataset import open_dataset
from jobs.data.order import Order, rows_in_order, window_at
from jobs.data.reader import Reader
dataset, consumed = open_dataset(sys.argv[1]), int(sys.argv[2])
start = time.perf_counter()
reader = Reader(dataset, batch=64)
reader.load_state({**reader.state(), "epoch": 3, "consumed": consumed})
order = Order(seed=0, window=8)
window = window_at(tuple(dataset.groups("train").rows.tolist()), order, 3, consumed)
rows = rows_in_order(window, order)[consumed - window.start:]
done = time.perf_counter()
print(json.dumps({"resume": done - start, "rows left in the window": len(rows)}))
"""


def manifest(rows: int, shards: int) -> DatasetManifest:
    """Of a dataset that has nothing but a manifest: nine tenths for training, the rest for both other splits."""
    each = rows // shards
    fates = ["train"] * (shards * 9 // 10) + ["valid"] * (shards // 20)
    fates += ["test"] * (shards - len(fates))
    size = each // GROUPS
    counts = [size] * (GROUPS - 1) + [each - size * (GROUPS - 1)]
    number = random.Random(0)
    found = []
    for shard, split in enumerate(fates):
        digest = sha256(str(shard).encode()).hexdigest()
        offset, groups = 4, []
        for count in counts:
            groups.append(Group(count, offset, count * ROW_BYTES, number.getrandbits(32)))
            offset += count * ROW_BYTES
        footer = Group(0, offset, 9000, number.getrandbits(32))
        found.append(
            Shard(
                path=f"shards/{digest[:40]}.parquet",
                rows=each,
                bytes=offset + 9008,
                sha256=digest,
                split=split,
                content=sha256(digest.encode()).hexdigest(),
                footer=footer,
                groups=tuple(groups),
            )
        )
    return DatasetManifest(
        name="many",
        version=1,
        kind="structures",
        schema_version=2,
        columns=tuple(Column(name=field.name, type=type_name(field.type)) for field in STRUCTURES),
        rows=each * shards,
        splits={split: each * fates.count(split) for split in ("train", "valid", "test")},
        shards=tuple(found),
        digest=sha256(b"many").hexdigest(),
        statistics={},
        provenance={"by": "benchmarks/dataset_open.py"},
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


def run(program: str, *arguments: str) -> dict[str, Any]:
    """What a fresh process prints. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__)
    content = manifest(ROWS, SHARDS)
    encoded, runs = content.encode(), []
    choose = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        open_store(folder).write(manifest_key("dataset", "many", 1), encoded)
        uri = f"{folder}/datasets/many@1"
        for _ in range(options.rounds + 1):
            contention = Contention()
            sample = str(choose.randrange(content.splits["train"]))
            runs.append(run(OPEN, uri) | run(RESUME, uri, sample))
            options.shares.append(contention.cores())
    runs = runs[1:]  # the first writes compiled modules
    units = {"imports": "s", "open": "s", "memory": "MiB", "resume": "s"}
    table = [
        {
            "figure": f"{name}, {unit}",
            "median": round(median(one[name] for one in runs), 4),
            "min": round(min(one[name] for one in runs), 4),
            "max": round(max(one[name] for one in runs), 4),
        }
        for name, unit in units.items()
    ]
    report = Report(
        "dataset_open",
        "Opening a dataset of 10 million rows",
        {
            "rows": ROWS,
            "shards": SHARDS,
            "row groups": SHARDS * GROUPS,
            "manifest bytes": len(encoded),
        },
        tables={"Fresh processes": table},
        goals=[
            Goal("open, s", median(one["open"] for one in runs), 1.0, less=True),
            Goal("open with imports, s", median(one["open"] + one["imports"] for one in runs), 1.0, less=True),
            Goal("memory, MiB", median(one["memory"] for one in runs), 200, less=True),
            Goal("resume, s", median(one["resume"] for one in runs), 1.0, less=True),
        ],
    )
    write(report, options)


if __name__ == "__main__":
    main()
