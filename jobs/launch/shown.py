"""What a person sees of a training run: the leading worker's progress, which it writes to the store."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.context import RunContext
from cluster.errors import NotFoundError

POLL_S = 0.5


@contextmanager
def shown(context: RunContext, steps: int) -> Iterator[None]:
    """Show the leading worker's progress, which it writes to the store, while the block waits for the end."""
    finished = threading.Event()
    with context.progress.task("train", total=steps, unit="steps") as bar:

        def follow() -> None:
            told: dict[str, Any] = {}
            while not finished.wait(POLL_S):
                try:
                    news = json.loads(context.store.read(f"runs/{context.run_id}/live.json"))
                except (NotFoundError, ValueError):
                    continue
                if news.get("stage") == "train" and news != told:  # nothing new while workers start again
                    told = news
                    bar.update(completed=news["completed"], **described(news))

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
            bar.update(completed=steps)
        finally:
            finished.set()
            watcher.join(timeout=5)


def described(news: dict[str, Any]) -> dict[str, str]:
    """The few numbers of a progress report that fit on a line."""
    now, measured = news.get("now", {}), news.get("measured", {})
    shown = {}
    if "epoch" in now:
        shown["epoch"] = f"{now['epoch']:.1f}"
    if "loss" in now:
        shown["loss"] = f"{now['loss']:.4g}"
    if "valid/force_mae" in measured:
        shown["force MAE"] = f"{1000 * measured['valid/force_mae']:.1f} meV/Å"
    elif "force_mae" in now:
        shown["force MAE"] = f"{1000 * now['force_mae']:.1f} meV/Å"
    if "data_wait" in now:
        shown["data wait"] = f"{100 * now['data_wait']:.1f} %"
    if "samples_per_second" in now:
        shown["rate"] = f"{now['samples_per_second']:.0f}/s"
    return shown
