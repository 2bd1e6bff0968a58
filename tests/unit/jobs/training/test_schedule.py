"""The learning rate against its closed forms."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.spec.optimizer import Schedule
from jobs.training.schedule import learning_rate

schedules = st.builds(
    Schedule,
    steps=st.integers(1, 400),
    warmup=st.integers(0, 100),
    decay=st.sampled_from(["cosine", "constant", "wsd"]),
    final_lr=st.floats(0, 1),
    cooldown=st.floats(0.01, 1),
)


def rates(schedule: Schedule, peak: float = 2.0) -> list[float]:
    return [learning_rate(step, schedule, peak=peak) for step in range(schedule.steps + 1)]


def test_cosine_is_half_a_cosine_from_the_peak_to_the_floor() -> None:
    found = rates(Schedule(steps=100, warmup=10, final_lr=0.1))
    assert found[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert found[10:] == pytest.approx(
        [0.2 + 1.8 * math.cos(math.pi * (step - 10) / 180) ** 2 for step in range(10, 101)]
    )


def test_wsd_stays_at_the_peak_and_falls_on_a_line() -> None:
    found = rates(Schedule(steps=100, warmup=10, decay="wsd", final_lr=0.1, cooldown=0.2))
    assert set(found[9:81]) == {2.0}
    assert found[80:] == pytest.approx([2.0 - 1.8 * (step - 80) / 20 for step in range(80, 101)])


def test_constant_stays_at_the_peak() -> None:
    assert set(rates(Schedule(steps=100, warmup=0, decay="constant"), peak=0.5)) == {0.5}


@settings(deadline=None, max_examples=50)
@given(schedules)
def test_no_rate_is_above_the_peak_or_negative(schedule: Schedule) -> None:
    assert all(0 <= rate <= 2.0 * (1 + 1e-12) for rate in rates(schedule))


@settings(deadline=None, max_examples=50)
@given(schedules)
def test_the_rate_rises_first_and_never_again(schedule: Schedule) -> None:
    pairs = list(enumerate(itertools.pairwise(rates(schedule))))
    assert all(after >= before for step, (before, after) in pairs if step + 1 < schedule.warmup)
    assert all(after <= before * (1 + 1e-12) for step, (before, after) in pairs if step + 1 >= schedule.warmup)


@settings(deadline=None, max_examples=50)
@given(schedules)
def test_the_rate_ends_at_its_floor(schedule: Schedule) -> None:
    if schedule.warmup < schedule.steps and schedule.decay != "constant":
        assert rates(schedule)[-1] == pytest.approx(2.0 * schedule.final_lr)


@settings(deadline=None, max_examples=50)
@given(st.integers(100, 3000), st.integers(10, 50), st.sampled_from(["cosine", "wsd"]))
def test_no_step_is_far_from_the_next(steps: int, warmup: int, decay: str) -> None:
    """Continuous: twice as many steps, half the largest change."""
    fine = Schedule.model_validate({"steps": 2 * steps, "warmup": 2 * warmup, "decay": decay})
    largest = max(abs(after - before) for before, after in itertools.pairwise(rates(fine, peak=1.0)))
    assert largest <= max(1 / (2 * warmup), math.pi / 2 / (2 * (steps - warmup)), 1.1 / (0.2 * 2 * steps)) * (1 + 1e-9)
