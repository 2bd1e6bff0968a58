"""A publication that is killed at any write leaves nothing visible, and the next try completes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.dataset.dataset import open_dataset
from cluster.dataset.read import list_datasets, read_table
from cluster.dataset.sweep import sweep_dataset
from cluster.dataset.verify import verify_dataset
from cluster.store.local import LocalStore

# Every fork publishes into a store of its own and is killed: before, within or after write number `at`.
CHILD = """
import json, os, sys
from pathlib import Path
import pyarrow as pa
from cluster.dataset.publish import publish_dataset
from cluster.dataset.schema import STRUCTURES
from cluster.store.local import LocalStore

class Dies(LocalStore):
    def __init__(self, root, at, moment):
        super().__init__(root)
        self.left, self.moment = at, moment

    def write(self, key, data, **condition):
        self.left -= 1
        if self.left == 0 and self.moment == "before":
            os._exit(9)
        if self.left == 0 and self.moment == "within":
            os.fsync = lambda descriptor: os._exit(9)
        etag = super().write(key, data, **condition)
        if self.left == 0:
            os._exit(9)
        return etag

def publish(store):
    rows = [
        {"id": f"r{i}", "numbers": [1, 8], "positions": [i] * 6, "energy": -i, "forces": [0] * 6, "group": f"r{i}",
         "split": "test" if i > 7 else "train"}
        for i in range(10)
    ]
    table = pa.Table.from_pylist(rows, schema=STRUCTURES)
    publish_dataset(store, "water", table, kind="structures", provenance={}, rows_per_shard=3)

folder, codes, at = Path(sys.argv[1]), {}, 1
while True:
    for moment in ("before", "within", "after"):
        child = os.fork()
        if child == 0:
            publish(Dies(folder / f"{at}-{moment}", at, moment))
            os._exit(0)
        codes[f"{at}-{moment}"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if set(codes.values()) != {9}:
        break
    at += 1
publish(LocalStore(folder / "whole"))
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """The folder of the stores, and how each publication ended."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_every_write_was_a_place_to_die(killed: tuple[Path, dict[str, int]]) -> None:
    folder, codes = killed
    writes = len(LocalStore(folder / "whole").list())
    assert writes == 6  # shards of 3, 3 and 2 train rows and of 2 test rows, the sizes, the manifest
    assert sorted(codes.values()) == [0] * 3 + [9] * 3 * writes


def test_what_was_killed_is_invisible_and_completed_by_the_next_try(killed: tuple[Path, dict[str, int]]) -> None:
    folder, codes = killed
    whole = LocalStore(folder / "whole")
    table = read_table(whole, "water")
    for name in (name for name, code in codes.items() if code == 9):
        store = LocalStore(folder / name)
        written = store.list()
        there = [manifest.ref for manifest in list_datasets(store)]
        assert there == (["water@1"] if name == "6-after" else []), name
        again = open_dataset("water", store=whole)
        publish_again(store)
        assert verify_dataset(store, "water") == [], name
        assert read_table(store, "water").equals(table), name
        assert store.list() == whole.list(), name  # nothing of the first try is left over, or was written twice
        assert set(written) <= set(whole.list()), name
        assert open_dataset("water", store=store).manifest.digest == again.manifest.digest


def publish_again(store: LocalStore) -> None:
    """What the child does, in this process."""
    from cluster.dataset.publish import publish_dataset

    table = read_table(LocalStore(store.root.parent / "whole"), "water")
    publish_dataset(store, "water", table, kind="structures", provenance={}, rows_per_shard=3)


def test_what_was_killed_can_be_swept_instead(killed: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    folder, _ = killed
    whole, half = LocalStore(folder / "whole"), LocalStore(tmp_path / "half")
    keys = whole.list()
    for key in keys:
        half.write(key, whole.read(key))
    half.write("datasets/water/shards/0000.parquet", b"of an ingest that was killed")
    assert sweep_dataset(half, "water").removed == ("datasets/water/shards/0000.parquet",)
    assert half.list() == keys
    half.delete("datasets/water/1/manifest.json")
    assert len(sweep_dataset(half, "water").removed) == len(keys) - 1
    assert half.list() == []
