"""What a person sees of a training run: the leading worker's progress, which it writes to the store."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.context import RunContext
from cluster.errors import NotFoundError, StoreError
from jobs.report.line import described, seconds_left

POLL_S = 0.5


@contextmanager
def shown(context: RunContext, steps: int) -> Iterator[None]:
    """Show the leading worker's progress, which it writes to the store, while the block waits for the end."""
    finished = threading.Event()
    with context.progress.task("train", total=steps, unit="steps") as bar:
        told: dict[str, Any] = {}

        def look() -> None:
            nonlocal told
            try:
                news = json.loads(context.store.read(f"runs/{context.run_id}/live.json"))
            except (NotFoundError, StoreError, ValueError):
                return
            if news.get("stage") == "train" and news != told:  # nothing new while workers start again
                told = news
                bar.update(completed=news["completed"], left_s=seconds_left(news), **described(news))

        def follow() -> None:
            while not finished.wait(POLL_S):
                look()

        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join(timeout=5)
            look()
            bar.update()  # what is left is nothing, also where the run ended early
