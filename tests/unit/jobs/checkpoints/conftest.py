"""Attempts at a run, with ranks that are threads."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.store import Store
from jobs.checkpoints import RunCheckpoints
from jobs.spec.strategy import Checkpoint

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves the path alone
from training_states import Layout, Ranks, Threads, flat


@pytest.fixture
def begin(store: Store, tmp_path: Path) -> Callable[..., Ranks]:
    """A new attempt at run r1 by `size` ranks."""

    def make(size: int = 1, layout: Layout = flat, **policy: Any) -> Ranks:
        group = Threads(size)
        chosen = Checkpoint(**{"patience": 10.0, **policy})

        def one(rank: int) -> RunCheckpoints:
            scratch = tmp_path / f"scratch-{rank}"
            scratch.mkdir(exist_ok=True)
            return RunCheckpoints(store, "r1", group.world(rank), chosen, scratch)

        with ThreadPoolExecutor(size) as pool:
            return Ranks(list(pool.map(one, range(size))), layout)

    return make
