"""The share of its time that training waits for data."""

import time

import pytest

from jobs.data.watch import DataWatch


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def step(watch: DataWatch, clock: Clock, waits: float, computes: float) -> None:
    with watch.waiting():
        clock.now += waits
    clock.now += computes
    watch.step_done()


def test_the_share_is_that_of_the_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = DataWatch()
    step(watch, clock, waits=9.0, computes=1.0)
    assert watch.share == 0.0
    step(watch, clock, waits=1.0, computes=3.0)
    step(watch, clock, waits=0.0, computes=4.0)
    assert watch.share == pytest.approx(1 / 8)


def test_what_lies_between_two_steps_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = DataWatch()
    step(watch, clock, 0.0, 1.0)
    step(watch, clock, 1.0, 1.0)
    clock.now += 100.0  # an evaluation
    step(watch, clock, 1.0, 1.0)
    assert watch.share == pytest.approx(1 / 2)


def test_a_new_stretch_forgets_and_the_whole_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = DataWatch()
    step(watch, clock, 0.0, 1.0)
    step(watch, clock, 1.0, 1.0)
    watch.begin()
    assert watch.share == 0.0
    step(watch, clock, 0.0, 2.0)
    assert watch.share == 0.0
    assert watch.share_of_all == pytest.approx(1 / 4)


def test_the_waits_of_all_micro_batches_of_a_step_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = DataWatch()
    step(watch, clock, 0.0, 1.0)
    for _ in range(3):
        with watch.waiting():
            clock.now += 1.0
        clock.now += 2.0
    assert watch.step_done() == pytest.approx(9.0)
    assert watch.share == pytest.approx(1 / 3)
