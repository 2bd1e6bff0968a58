"""The packing decision by its properties, and the loop by what it must survive."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from serve.batching import Budget, MicroBatcher, Send, Wait, answer_all, decide
from serve.rejection import RejectedError

BUDGET = Budget(cost=100, items=8, wait_s=0.005)


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work(), 20))


def batcher(predict: Any, budget: Budget = BUDGET, max_queued: int = 1000) -> MicroBatcher[Any, Any]:
    return MicroBatcher(predict, budget, max_queued=max_queued)


class Recorder:
    """Answers an item with itself; remembers the batches. `"poison"` fails its batch, `"exit"` its thread."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.batches: list[list[Any]] = []
        self.delay_s = delay_s

    def __call__(self, items: list[Any]) -> list[Any]:
        self.batches.append(list(items))
        time.sleep(self.delay_s)
        if "exit" in items:
            raise SystemExit(3)
        if "poison" in items:
            raise ValueError("poison")
        return [("answer", item) for item in items]


def greedy_reference(costs: list[int], budget: Budget) -> int:
    """The slow twin: the longest head of the queue that fits."""
    best = 0
    for count in range(1, len(costs) + 1):
        if count <= budget.items and sum(costs[:count]) <= budget.cost:
            best = count
    return best


def test_a_queue_is_cut_into_the_longest_heads_that_fit() -> None:
    chance = random.Random(0)
    for _ in range(300):
        budget = Budget(chance.randint(1, 60), chance.randint(1, 6), 0.005)
        costs = [chance.randint(1, budget.cost) for _ in range(chance.randint(1, 30))]
        sent: list[int] = []
        queue = list(costs)
        while queue:
            decision = decide(queue, budget.wait_s, budget)
            assert decision == Send(greedy_reference(queue, budget))
            sent += queue[: decision.count]
            del queue[: decision.count]
        assert sent == costs  # first in, first out; none lost, none twice


def test_a_batch_waits_for_company_until_it_is_full_or_its_oldest_item_is_due() -> None:
    assert decide([10, 10], 0.002, BUDGET) == Wait(pytest.approx(0.003))
    assert decide([10, 10], 0.005, BUDGET) == Send(2)
    assert decide([60, 40], 0.0, BUDGET) == Send(2)
    assert decide([60, 41], 0.0, BUDGET) == Send(1)
    assert decide([1] * 9, 0.0, BUDGET) == Send(8)


def test_a_decision_looks_at_no_more_items_than_a_batch_can_hold() -> None:
    seen = 0

    def costs() -> Any:
        nonlocal seen
        for _ in range(10_000):
            seen += 1
            yield 1

    decide(costs(), 0.0, BUDGET)
    assert seen <= BUDGET.items + 1


def test_items_that_come_together_share_a_batch_and_keep_their_order() -> None:
    recorder = Recorder()

    async def work() -> list[list[Any]]:
        queue = batcher(recorder)
        return list(await asyncio.gather(*(queue.submit([k], [10]) for k in range(5))))

    assert run(work) == [[("answer", k)] for k in range(5)]
    assert recorder.batches == [[0, 1, 2, 3, 4]]


def test_no_batch_exceeds_the_budget_under_random_load() -> None:
    chance = random.Random(1)
    recorder = Recorder(delay_s=0.001)
    jobs = [[chance.randint(1, 100) for _ in range(chance.randint(1, 4))] for _ in range(60)]

    async def one(queue: MicroBatcher[Any, Any], number: int, costs: list[int]) -> None:
        await asyncio.sleep(chance.random() * 0.05)
        items = [(number, k, cost) for k, cost in enumerate(costs)]
        assert await queue.submit(items, costs) == [("answer", item) for item in items]

    async def work() -> None:
        queue = batcher(recorder)
        await asyncio.gather(*(one(queue, number, costs) for number, costs in enumerate(jobs)))

    run(work)
    assert all(sum(cost for _, _, cost in batch) <= 100 and len(batch) <= 8 for batch in recorder.batches)
    assert sum(len(batch) for batch in recorder.batches) == sum(map(len, jobs))
    assert any(len(batch) > 1 for batch in recorder.batches)


def test_a_poison_item_fails_alone_and_its_neighbours_are_answered() -> None:
    async def work() -> list[Any]:
        queue = batcher(Recorder())
        items = [1, "poison", 3]
        return await asyncio.gather(*(queue.submit([item], [1]) for item in items), return_exceptions=True)

    first, second, third = run(work)
    assert first == [("answer", 1)]
    assert third == [("answer", 3)]
    assert isinstance(second, RejectedError)
    assert (second.status, second.code, second.where) == (500, "model_failed", (0,))


def test_a_forward_that_loses_an_answer_is_noticed() -> None:
    outcomes = answer_all(lambda items: items[:1], ["a", "b"])
    assert outcomes == ["a", "b"]  # alone, each is answered
    (alone,) = answer_all(lambda items: [], ["a"])
    assert isinstance(alone, RuntimeError)
    assert "0 answers for 1 items" in str(alone)


@pytest.mark.parametrize("poison", ["poison", "exit"])
def test_the_loop_outlives_whatever_the_forward_does(poison: str) -> None:
    async def work() -> Any:
        queue = batcher(Recorder())
        for _ in range(3):
            with pytest.raises(RejectedError):
                await queue.submit([poison], [1])
        return await queue.submit(["good"], [1])

    assert run(work) == [("answer", "good")]


def test_an_item_above_the_budget_is_refused_and_nothing_of_its_request_is_queued() -> None:
    recorder = Recorder()

    async def work() -> RejectedError:
        queue = batcher(recorder)
        with pytest.raises(RejectedError) as caught:
            await queue.submit(["small", "large"], [1, 101])
        return caught.value

    refusal = run(work)
    assert (refusal.status, refusal.where) == (413, (1,))
    assert recorder.batches == []


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    async def work() -> tuple[RejectedError, int]:
        queue = batcher(Recorder(delay_s=0.05), Budget(10, 1, 0.0), max_queued=3)
        first = asyncio.create_task(queue.submit(["a"], [10]))
        await asyncio.sleep(0.02)  # it is in the forward now, the queue is empty
        waiting = [asyncio.create_task(queue.submit([k], [10])) for k in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RejectedError) as caught:
            await queue.submit(["late"], [10])
        answers = await asyncio.gather(first, *waiting)
        return caught.value, len(answers)

    refusal, answered = run(work)
    assert (refusal.status, refusal.code) == (503, "busy")
    assert refusal.retry_after_s is not None
    assert refusal.retry_after_s >= 1
    assert answered == 4


def test_a_probe_passes_a_full_queue() -> None:
    async def work() -> Any:
        queue = batcher(Recorder(delay_s=0.01), Budget(10, 1, 0.0), max_queued=1)
        waiting = [asyncio.create_task(queue.submit([k], [10], urgent=True)) for k in range(3)]
        await asyncio.sleep(0)
        return await queue.submit(["probe"], [1], urgent=True), await asyncio.gather(*waiting)

    assert run(work)[0] == [("answer", "probe")]


def test_the_event_loop_stays_free_while_the_forward_runs() -> None:
    async def work() -> int:
        queue = batcher(Recorder(delay_s=0.2))
        task, beats = asyncio.create_task(queue.submit(["a"], [1])), 0
        while not task.done():
            await asyncio.sleep(0.01)
            beats += 1
        return beats

    assert run(work) >= 5


def test_the_forward_runs_in_one_thread_that_is_not_the_loop() -> None:
    names: set[str] = set()

    def predict(items: list[Any]) -> list[Any]:
        names.add(threading.current_thread().name)
        return items

    async def work() -> None:
        queue = batcher(predict, Budget(1, 1, 0.0))
        await asyncio.gather(*(queue.submit([k], [1]) for k in range(20)))

    run(work)
    assert len(names) == 1
    assert threading.main_thread().name not in names


def test_the_item_of_a_caller_who_left_is_not_computed() -> None:
    recorder = Recorder(delay_s=0.05)

    async def work() -> None:
        queue = batcher(recorder, Budget(10, 1, 0.0))
        first = asyncio.create_task(queue.submit(["first"], [1]))
        await asyncio.sleep(0.02)
        left, stays = (asyncio.create_task(queue.submit([name], [1])) for name in ("left", "stays"))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(first, stays)

    run(work)
    assert recorder.batches == [["first"], ["stays"]]


def test_closing_fails_those_who_wait_and_refuses_those_who_come() -> None:
    async def work() -> list[Any]:
        queue = batcher(Recorder(delay_s=0.05), Budget(10, 1, 0.0))
        waiting = [asyncio.create_task(queue.submit([k], [1])) for k in range(3)]
        await asyncio.sleep(0.02)
        queue.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(RejectedError):
            await queue.submit(["late"], [1])
        return outcomes

    assert [outcome.status for outcome in run(work)] == [503, 503, 503]


def test_a_loop_that_was_killed_is_started_again_by_the_next_item() -> None:
    async def work() -> Any:
        queue = batcher(Recorder())
        await queue.submit(["a"], [1])
        assert queue._loop_task is not None
        queue._loop_task.cancel()
        await asyncio.sleep(0.01)
        return await queue.submit(["b"], [1])

    assert run(work) == [("answer", "b")]


def test_measuring_that_fails_costs_no_answer() -> None:
    def measure(items: int, queued: int) -> None:
        raise RuntimeError("no metrics today")

    async def work() -> list[Any]:
        queue: MicroBatcher[Any, Any] = MicroBatcher(Recorder(), BUDGET, max_queued=10, on_batch=measure)
        return [await queue.submit([k], [1]) for k in range(3)]

    assert run(work) == [[("answer", k)] for k in range(3)]
