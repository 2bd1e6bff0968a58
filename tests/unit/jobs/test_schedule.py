"""The learning rate and the averaged weights."""

import itertools

import pytest
import torch

from jobs.ema import AveragedModel
from jobs.schedule import learning_rate
from jobs.spec.train import Schedule

SCHEDULE = Schedule(steps=100, warmup=10, final_lr=0.1)


def test_the_rate_rises_to_the_peak_and_falls_to_the_floor() -> None:
    rates = [learning_rate(step, SCHEDULE, peak=2.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == pytest.approx(2.0)
    assert rates[100] == pytest.approx(0.2)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_a_constant_schedule_stays_at_the_peak() -> None:
    schedule = Schedule(steps=100, warmup=0, decay="constant")
    assert {learning_rate(step, schedule, peak=0.5) for step in (0, 50, 99)} == {0.5}


def test_the_average_follows_the_published_recurrence() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    average, expected = AveragedModel(model, 0.9), 0.0
    for n in range(1, 40):
        torch.nn.init.constant_(model.weight, float(n))
        average.update(model, n)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert float(average.module.weight.detach()) == pytest.approx(expected, rel=1e-5)


def test_without_decay_the_average_is_the_model() -> None:
    model = torch.nn.Linear(3, 2)
    average = AveragedModel(model, 0.0)
    torch.nn.init.normal_(model.weight)
    average.update(model, 5)
    torch.testing.assert_close(average.module.weight, model.weight.detach())
