"""Alive, busy and dead are told apart."""

import asyncio
import threading
import time
from typing import Any

import pytest

from serve.batching import Budget, MicroBatcher
from serve.health import Health
from serve.rejection import RejectedError


def health(batcher: MicroBatcher[Any, Any], timeout_s: float = 0.1, fresh_s: float = 0.0) -> Health:
    return Health(batcher, lambda: "probe", 1, timeout_s=timeout_s, fresh_s=fresh_s)


def test_a_model_that_hangs_is_unhealthy() -> None:
    stuck = threading.Event()

    async def work() -> RejectedError:
        batcher: MicroBatcher[Any, Any] = MicroBatcher(
            lambda items: [stuck.wait(20) for _ in items], Budget(10, 10, 0.0), max_queued=10
        )
        try:
            with pytest.raises(RejectedError, match=r"no answer from the model within 0\.1 s") as caught:
                await health(batcher).check()
            return caught.value
        finally:
            stuck.set()
            batcher.close()

    assert asyncio.run(work()).status == 503


def test_a_long_queue_is_busy_and_not_dead() -> None:
    def slow(items: list[Any]) -> list[Any]:
        time.sleep(0.04)
        return items

    async def work() -> int:
        batcher: MicroBatcher[Any, Any] = MicroBatcher(slow, Budget(10, 1, 0.0), max_queued=100)
        waiting = asyncio.create_task(batcher.submit(list(range(10)), [1] * 10))
        await asyncio.sleep(0)
        await health(batcher).check()  # the probe comes back after 0.4 s; others are answered meanwhile
        answered = batcher.answered
        await waiting
        return answered

    assert 0 < asyncio.run(work()) < 10


def test_a_model_that_fails_the_probe_is_unhealthy_and_recovers() -> None:
    broken = True

    def predict(items: list[Any]) -> list[Any]:
        if broken:
            raise ValueError("broken")
        return items

    async def work() -> None:
        nonlocal broken
        checked = health(MicroBatcher(predict, Budget(10, 10, 0.0), max_queued=10))
        with pytest.raises(RejectedError, match="the probe failed"):
            await checked.check()
        broken = False
        await checked.check()

    asyncio.run(work())


def test_an_answer_stays_good_for_a_moment_only() -> None:
    probes: list[Any] = []
    now = [0.0]

    def predict(items: list[Any]) -> list[Any]:
        probes.extend(items)
        return items

    async def work() -> None:
        batcher: MicroBatcher[Any, Any] = MicroBatcher(predict, Budget(10, 10, 0.0), max_queued=10)
        checked = Health(batcher, lambda: "probe", 1, fresh_s=1.0, clock=lambda: now[0])
        for now[0] in (0.0, 0.5, 0.9, 1.1, 1.5):
            await checked.check()

    asyncio.run(work())
    assert len(probes) == 2
