"""An iterator that runs ahead of who consumes it, in a thread of its own."""

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class _End:
    """What the thread puts last: the exception that ended the iterator, or none."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead(Generic[Item]):
    """`with Ahead(items, depth) as ahead: for item in ahead`: at most `depth` items are made before they are asked for.

    What the iterator raises is raised where the item is asked for. Leaving the block ends the thread; the iterator is
    closed in it, after the item that it is making.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._items, self._left = items, threading.Event()
        self._queue: queue.Queue[Item | _End] = queue.Queue(depth)
        self._thread = threading.Thread(target=self._run, name="equi-reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        while self._thread.is_alive():  # it may wait for room
            try:
                self._queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        while True:
            item = self._queue.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                self._queue.put(item)
                if self._left.is_set():
                    break
        except BaseException as caught:  # it belongs to the consumer, whatever it is
            error = caught
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        self._queue.put(_End(error))
