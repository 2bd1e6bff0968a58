"""What a person sees of a run follows what its leading worker writes, to the last word."""

import io
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cluster.progress import Progress
from cluster.store import Store
from jobs.launch import shown as module
from jobs.launch.shown import shown


def tell(store: Store, completed: int, loss: float) -> None:
    news = {
        "stage": "train",
        "completed": completed,
        "now": {"loss": loss, "seconds_left": 5.0},
        "metric": "valid/loss",
    }
    store.write("runs/r1/live.json", json.dumps(news).encode())


@pytest.fixture
def seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, io.StringIO]:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    out = io.StringIO()
    progress = Progress(console=Console(file=out, width=200), store=store, run_id="r1")
    return SimpleNamespace(store=store, run_id="r1", progress=progress), out


def task(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.read("runs/r1/progress.json"))["tasks"][0]
    return found


def test_the_last_word_of_the_workers_is_the_last_line(store: Store, seen: tuple[Any, io.StringIO]) -> None:
    context, out = seen
    with shown(context, 40):
        tell(store, 10, 2.0)
        time.sleep(0.1)
        tell(store, 30, 1.0)  # ended early
    assert out.getvalue().splitlines()[-1].startswith("train: 30/40 steps · loss 1 · ")
    assert "left" not in out.getvalue().splitlines()[-1]
    assert task(store)["completed"] == 30


def test_a_store_that_has_nothing_yet_or_nonsense_shows_nothing(store: Store, seen: tuple[Any, io.StringIO]) -> None:
    context, _ = seen
    with shown(context, 40):
        store.write("runs/r1/live.json", b"{")
        time.sleep(0.05)
    assert task(store)["completed"] == 0


def test_an_error_of_the_run_passes_through(store: Store, seen: tuple[Any, io.StringIO]) -> None:
    context, _ = seen
    with pytest.raises(RuntimeError, match="workers"), shown(context, 40):
        raise RuntimeError("the workers have gone")
    assert task(store)["ended"]
