"""An ingest that is killed leaves nothing that can be seen, and is completed by running it again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from cluster.context import RunContext
from cluster.dataset.catalog import list_datasets
from cluster.dataset.verify import verify_dataset
from cluster.progress import Progress
from cluster.runs import load_run
from cluster.spec.load import load_spec
from cluster.store import Store, open_store
from jobs.ingest.run import run
from jobs.ingest.schedule import in_turn

pytestmark = pytest.mark.timeout(900)

EQUI = [sys.executable, "-c", "from cluster.cli import main; main()"]
SCRIPT = Path(__file__).with_name("killed_ingest.py")
PIECES = 3


def write(folder: Path, files: int = PIECES, frames: int = 20) -> Path:
    """A spec and its files; each is a piece."""
    rng = np.random.default_rng(0)
    for number in range(files):
        lines = []
        for _ in range(frames):
            lines += ["3", f"Properties=species:S:1:pos:R:3:forces:R:3 energy={rng.normal()}"]
            lines += [" ".join([z, *map(str, rng.normal(size=6))]) for z in "OHH"]
        (folder / f"w{number:03d}.xyz").write_text("\n".join([*lines, ""]))
    path = folder / "waters.yaml"
    path.write_text("kind: dataset\nname: waters\nsource: {name: extxyz, params: {file: w*.xyz}}\nseed: 1\n")
    return path


def complete(spec: Path, store: Store) -> tuple[dict[str, Any], str]:
    """Run it again in this process, to its end. What it returns, and what it says."""
    told = StringIO()
    progress = Progress(console=Console(file=told, width=200))
    context = RunContext("r1", store, progress, Path(), True, lambda: False, cast(Any, None))
    return run(load_spec(spec).spec, context, in_turn), told.getvalue()


def pool(store: Store) -> set[str]:
    return {key.removeprefix("datasets/waters/") for key in store.list("datasets/waters") if "/shards/" in key}


def test_an_ingest_killed_at_any_change_of_its_store_is_invisible_and_is_completed(tmp_path: Path) -> None:
    spec = write(tmp_path)
    expected, _ = complete(spec, open_store(str(tmp_path / "unbroken")))
    shards, sizes, manifest = 3, 1, 1
    visible_from = 2 * PIECES + shards + sizes + manifest  # changes; the manifest is the last of them
    changes = visible_from + 2 * PIECES  # then what was staged is removed
    for change in range(1, changes + 1):
        store = open_store(str(tmp_path / f"store-{change}"))
        died = subprocess.run([sys.executable, str(SCRIPT), str(spec), store.uri, "r1", str(change)], check=False)
        assert died.returncode == -signal.SIGKILL, f"change {change} never came"
        assert [each.ref for each in list_datasets(store)] == ([] if change <= visible_from else ["waters@1"])
        staged = sum("index" in key for key in store.list("runs/r1/parts"))
        outputs, told = complete(spec, store)
        assert outputs == expected, f"killed at change {change}"
        if staged:
            assert f"{staged} of {PIECES} pieces were read before" in told
        assert verify_dataset(store, "waters@1") == []
        (published,) = list_datasets(store)
        named = {shard.path for shard in published.shards} | {cast(Any, published.sizes).path}
        assert pool(store) == named, "something that no manifest names was left"
        assert store.list("runs/r1/parts") == []
    alive = subprocess.run(
        [sys.executable, str(SCRIPT), str(spec), str(tmp_path / "last"), "r1", str(changes + 1)], check=False
    )
    assert alive.returncode == 0, "there is a change that was not tried"


def test_an_ingest_whose_driver_is_killed_is_resumed_after_what_it_has_read(
    tmp_path: Path, start: Callable[..., AbstractContextManager[Any]], stretch: float
) -> None:
    spec = write(tmp_path, files=40, frames=1500)
    store = open_store(str(tmp_path / ".equi" / "store"))
    expected, _ = complete(spec, open_store(str(tmp_path / "unbroken")))
    parts = "runs/waters/parts"

    def indexes() -> set[str]:
        return {key for key in store.list(parts) if "index" in key}

    with start([*EQUI, "data", "ingest", str(spec), "--id", "waters", "--follow", "--cpus", "2"], tmp_path) as running:
        deadline = time.monotonic() + 120 * stretch
        while len(indexes()) < 4:
            assert time.monotonic() < deadline, running.output
            time.sleep(0.02)
        os.kill(cast(int, load_run(store, "waters").where.pid), signal.SIGKILL)
        assert not running.left_after(30 * stretch)
    kept = len(indexes())
    assert 4 <= kept < 40, "it was killed too late"
    assert list_datasets(store) == []
    with start([*EQUI, "resume", "waters", "--follow", "--cpus", "2"], tmp_path) as running:
        assert running.exit_code(120 * stretch) == 0, running.output
        (found,) = re.findall(r"(\d+) of 40 pieces were read before", running.output)
        assert int(found) >= kept
    record = load_run(store, "waters")
    assert record.status == "succeeded"
    assert json.loads(json.dumps(record.outputs))["digest"] == expected["digest"]
    assert verify_dataset(store, "waters@1") == []
    assert store.list(parts) == []
