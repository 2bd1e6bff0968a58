"""One forward pass for many callers: when a batch goes out, and the loop that sends it.

`decide` is the whole policy and touches nothing. `MicroBatcher` is the loop around it: it never dies of an
item, keeps the order of arrival, runs the forward in one thread so that the event loop stays free, and
answers the neighbours of an item that fails. Ray Serve's own `@batch` is not used because an exception in its
size function ends it for ever while the replica still reports healthy (reference/serving.md, section 5).

Cost is whatever the budget counts (atoms, pixels); times are seconds of a monotonic clock.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from serve.rejection import RejectedError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """What one batch may hold, and how long its oldest item may wait for company."""

    cost: int
    items: int
    wait_s: float


@dataclass(frozen=True)
class Send:
    """The first `count` items go out now."""

    count: int


@dataclass(frozen=True)
class Wait:
    """Nothing goes out for `seconds`, unless something arrives."""

    seconds: float


def decide(costs: Iterable[int], oldest_age_s: float, budget: Budget) -> Send | Wait:
    """What to do with a queue, oldest first, that is not empty.

    Strictly first in, first out: an item that does not fit ends the batch and opens the next one, so a large
    item is never overtaken. Looks at no more items than one batch can hold.
    """
    total = count = 0
    full = False
    for cost in costs:
        if count and (total + cost > budget.cost or count == budget.items):
            full = True
            break
        total, count = total + cost, count + 1
    if full or total >= budget.cost or count >= budget.items or oldest_age_s >= budget.wait_s:
        return Send(count)
    return Wait(budget.wait_s - oldest_age_s)


def answer_all(predict: Callable[[list[Item]], Sequence[Answer]], items: list[Item]) -> list[Answer | Exception]:
    """One answer or one exception per item. If the batch fails, each member is tried alone, so that only the
    poison among them fails; a forward that returns the wrong number of answers counts as failed."""
    try:
        answers: list[Answer | Exception] = list(predict(items))
        if len(answers) == len(items):
            return answers
        failure: Exception = RuntimeError(f"the model gave {len(answers)} answers for {len(items)} items")
    except Exception as error:
        failure = error
    if len(items) == 1:
        if not isinstance(failure, RejectedError):
            log.error("the model failed on an item", exc_info=failure)
        return [failure]
    log.warning("a batch of %d failed (%s: %s); trying its members alone", len(items), type(failure).__name__, failure)
    return [answer_all(predict, [item])[0] for item in items]


@dataclass(eq=False)
class _Waiting(Generic[Item]):
    item: Item
    cost: int
    since: float
    answer: asyncio.Future[Any]


class MicroBatcher(Generic[Item, Answer]):
    """Collects items into batches for `predict`. Lives on one event loop: that of its first `submit`."""

    def __init__(
        self,
        predict: Callable[[list[Item]], Sequence[Answer]],
        budget: Budget,
        *,
        max_queued: int,
        clock: Callable[[], float] = time.monotonic,
        on_batch: Callable[[int, int], None] = lambda items, queued: None,
    ) -> None:
        """on_batch: told of every batch, how many items it has and how many wait behind it."""
        self._predict, self._budget, self._max_queued, self._clock = predict, budget, max_queued, clock
        self._on_batch = on_batch
        self._queue: deque[_Waiting[Item]] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._loop_task: asyncio.Task[None] | None = None
        self._seconds_per_cost = 0.0
        self.answered = 0  # items that got an answer: what shows that the loop is alive
        self.batches = 0
        self.closed = False

    async def submit(self, items: Sequence[Item], costs: Sequence[int], *, urgent: bool = False) -> list[Answer]:
        """Answers of all items, in order. All are queued or none is.

        Raises RejectedError: 413 if one item alone exceeds the budget, 503 with Retry-After if the queue is full
        or closing, and otherwise what the first failing item failed with (its `where` begins with the item's
        index). `urgent` passes the bound of the queue: for health probes, which must tell busy from dead.
        """
        for index, cost in enumerate(costs):
            if cost > self._budget.cost:
                raise RejectedError(
                    413,
                    "too_large",
                    f"one item may cost at most {self._budget.cost}, this one {cost}",
                    where=(index,),
                )
        if self.closed:
            raise _closing()
        if not urgent and len(self._queue) + len(items) > self._max_queued:
            raise RejectedError(
                503,
                "busy",
                f"{len(self._queue)} items are waiting and at most {self._max_queued} may",
                retry_after_s=self.seconds_to_drain(),
            )
        loop, now = asyncio.get_running_loop(), self._clock()
        waiting = [_Waiting(item, cost, now, loop.create_future()) for item, cost in zip(items, costs, strict=True)]
        self._queue.extend(waiting)
        self._arrived.set()
        if self._loop_task is None or self._loop_task.done():
            self._loop_task = loop.create_task(self._run(), name="micro-batcher")
        try:
            outcomes = await asyncio.gather(*(w.answer for w in waiting), return_exceptions=True)
        finally:  # a caller who left takes its items along: nobody would read the answer
            for w in waiting:
                w.answer.cancel()
        answers: list[Answer] = []
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, RejectedError):
                raise outcome.at(index)
            if isinstance(outcome, BaseException):
                raise RejectedError(
                    500,
                    "model_failed",
                    f"the model failed on this item: {type(outcome).__name__}",
                    where=(index,),
                ) from outcome
            answers.append(outcome)
        return answers

    def seconds_to_drain(self) -> int:
        """Whole seconds, at least 1, until the queue as it is now is empty, by the speed of recent
        batches."""
        return min(600, max(1, math.ceil(self._seconds_per_cost * sum(w.cost for w in self._queue))))

    def close(self) -> None:
        """Refuse new items, fail those that wait, and let the forward that runs come to its end."""
        self.closed = True
        if self._loop_task is not None:
            self._loop_task.cancel()
        self._fail(self._queue, _closing())
        self._queue.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while not self.closed:
            try:
                batch = await self._next_batch()
                if batch:
                    await self._answer(batch)
            except Exception:  # ours, not an item's: say so, and go on with the rest of the queue
                log.exception("the batching loop failed and goes on")
                await asyncio.sleep(0.01)

    async def _next_batch(self) -> list[_Waiting[Item]]:
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        while self._queue and self._queue[0].answer.done():
            self._queue.popleft()
        if not self._queue:
            return []
        decision = decide((w.cost for w in self._queue), self._clock() - self._queue[0].since, self._budget)
        if isinstance(decision, Send):
            return [w for w in self._pop(decision.count) if not w.answer.done()]
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), decision.seconds)
        return []

    def _pop(self, count: int) -> list[_Waiting[Item]]:
        head = list(islice(self._queue, count))
        for _ in head:
            self._queue.popleft()
        return head

    async def _answer(self, batch: list[_Waiting[Item]]) -> None:
        started = self._clock()
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(
                self._thread, answer_all, self._predict, [w.item for w in batch]
            )
        except asyncio.CancelledError:
            self._fail(batch, _closing())
            raise
        except BaseException as error:  # SystemExit in the thread too: a callback that escapes would end the loop
            log.exception("the forward could not be run")
            self._fail(batch, RuntimeError(f"the forward could not be run: {type(error).__name__}"))
            return
        self.batches += 1
        rate = (self._clock() - started) / max(1, sum(w.cost for w in batch))
        self._seconds_per_cost = rate if self.batches == 1 else 0.8 * self._seconds_per_cost + 0.2 * rate
        for w, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                if not w.answer.done():
                    w.answer.set_exception(outcome)
            else:
                self.answered += 1
                if not w.answer.done():
                    w.answer.set_result(outcome)
        self._on_batch(len(batch), len(self._queue))  # last: whatever it does, the callers have their answers

    def _fail(self, waiting: Iterable[_Waiting[Item]], error: Exception) -> None:
        for w in waiting:
            if not w.answer.done():
                w.answer.set_exception(error)


def _closing() -> RejectedError:
    return RejectedError(503, "closing", "this replica is shutting down; ask again", retry_after_s=1)
