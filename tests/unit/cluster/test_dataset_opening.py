"""Opening a dataset of 10 million rows reads its manifest and little else."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.dataset.commit import columns_of
from cluster.dataset.manifest import DatasetManifest, Group, Shard
from cluster.dataset.schema import SCHEMA_VERSION, SPLITS, STRUCTURES
from cluster.store import open_store

SHARDS, GROUPS, ROWS = 2000, 16, 313  # row groups a shard, rows a group: 10.016 million rows
SPLIT_OF = {
    split: range(*bounds) for split, bounds in zip(SPLITS, ((0, 1800), (1800, 1900), (1900, SHARDS)), strict=True)
}

# Processor seconds of the whole process, whose one thread waits for nothing but this disk: the time that it takes on a
# machine that has nothing else to do.
OPEN = """
import json, resource, sys, time
from cluster.dataset.dataset import open_dataset
imported = time.process_time()
dataset = open_dataset(sys.argv[1])
index = dataset.groups("valid")
used = resource.getrusage(resource.RUSAGE_SELF)
# ru_maxrss would be at least that of the test's own process, from which this one was forked.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({
    "seconds": used.ru_utime + used.ru_stime,
    "opening": time.process_time() - imported,
    "bytes": int(peak.split()[1]) * 1024,
    "rows": len(dataset),
    "groups": len(dataset.groups()),
    "first": int(index.first[0]),
    "number": int(index.number[0]),
    "imported": sorted(name for name in ("torch", "ray", "pandas", "boto3") if name in sys.modules),
}))
"""


def shard(number: int) -> Shard:
    groups = tuple(Group(ROWS, 4 + (place << 22), 1 << 22, (number * GROUPS + place) * 7919) for place in range(GROUPS))
    return Shard(
        path=f"shards/{number:040x}.parquet",
        rows=ROWS * GROUPS,
        bytes=(GROUPS << 22) + 12_000,
        sha256=f"{number:064x}",
        split=next(split for split, numbers in SPLIT_OF.items() if number in numbers),
        content=f"{number:064x}",
        footer=Group(0, 4 + (GROUPS << 22), 11_996, number),
        groups=groups,
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the manifest of a dataset, and nothing else."""
    root = tmp_path_factory.mktemp("large")
    manifest = DatasetManifest(
        name="large",
        version=1,
        kind="structures",
        schema_version=SCHEMA_VERSION,
        columns=columns_of(STRUCTURES),
        rows=SHARDS * GROUPS * ROWS,
        splits={split: len(numbers) * GROUPS * ROWS for split, numbers in SPLIT_OF.items()},
        shards=tuple(shard(number) for number in range(SHARDS)),
        digest="0" * 64,
        statistics={},
        provenance={},
        created=datetime.now(UTC),
    )
    open_store(str(root)).write("datasets/large/1/manifest.json", manifest.encode())
    return root


def test_ten_million_rows_open_in_a_second_and_200_megabytes(large: Path) -> None:
    command = [sys.executable, "-c", OPEN, f"{large}/datasets/large"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["rows"], found["groups"]) == (10_016_000, 32_000)
    assert (found["number"], found["first"]) == (1800 * GROUPS, 1800 * GROUPS * ROWS)
    assert found["imported"] == []
    assert found["seconds"] < 1.0
    assert found["opening"] < 0.5
    assert found["bytes"] < 200e6
