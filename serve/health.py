"""Is the endpoint alive? A probe goes the whole way: queue, batch, model, answer."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from serve.batching import MicroBatcher
from serve.rejection import RejectedError


class Health:
    """Probes the model through the batcher, at most once per `fresh_s`, so that asking costs a stranger
    nothing."""

    def __init__(
        self,
        batcher: MicroBatcher[Any, Any],
        probe: Callable[[], Any],
        cost: int,
        *,
        timeout_s: float = 10.0,
        fresh_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batcher, self._probe, self._cost = batcher, probe, cost
        self._timeout_s, self._fresh_s, self._clock = timeout_s, fresh_s, clock
        self._last_good = float("-inf")
        self._probing: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Return if alive. Raises RejectedError (503) if the probe failed, or did not come back in time while
        nobody else was answered either: a long queue is busy, not dead."""
        if self._clock() - self._last_good < self._fresh_s:
            return
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._ask())
        await asyncio.shield(self._probing)

    async def _ask(self) -> None:
        before = self._batcher.answered
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._batcher.submit([self._probe()], [self._cost], urgent=True)
        except TimeoutError as error:
            if self._batcher.answered == before:
                message = f"no answer from the model within {self._timeout_s:g} s"
                raise RejectedError(503, "unhealthy", message, retry_after_s=5) from error
        except RejectedError as error:
            raise RejectedError(503, "unhealthy", f"the probe failed: {error.message}", retry_after_s=5) from error
        self._last_good = self._clock()
