"""What the loop and the recorder measure arrives under the names of the table."""

from typing import Any

import pytest

from cluster import metrics
from jobs.metering import training_meter


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], float]:
    told: dict[tuple[str, ...], float] = {}

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name = name

        def _keep(self, value: float, tags: dict[str, str]) -> None:
            told[(self.name, *(text for label, text in tags.items() if label != "run_id"))] = value

        inc = set = observe = _keep

    made: dict[str, Any] = {}
    monkeypatch.setattr(metrics, "_made", made)
    monkeypatch.setattr(metrics, "_make", lambda metric: Recorded(metric.name))
    return told


def test_progress_becomes_gauges_and_a_count_of_samples(told: dict[tuple[str, ...], float]) -> None:
    emit = training_meter("r1")
    first = {"step": 1, "loss": 2.0, "samples": 8, "epoch": 0.1, "step_seconds": 0.25, "seconds_left": 9.0}
    emit(first)
    emit({**first, "samples": 24, "atoms_per_second": 500.0, "flops_per_second": 1e9, "mfu": 0.5, "skipped": 1.0})
    assert told == {
        ("equi_samples",): 16.0,
        ("equi_step",): 1,
        ("equi_step_seconds",): 0.25,
        ("equi_training_metric", "loss"): 2.0,
        ("equi_throughput", "atoms"): 500.0,
        ("equi_flops",): 1e9,
        ("equi_mfu",): 0.5,
        ("equi_skipped_steps",): 1.0,
    }


def test_an_evaluation_arrives_too_with_the_memory_of_every_rank(told: dict[tuple[str, ...], float]) -> None:
    training_meter("r1")({"train/loss": 1.0, "train/data_wait": 0.1, "valid/loss": 3.0, "memory/rank1": 2e9})
    assert told == {
        ("equi_training_metric", "loss"): 1.0,
        ("equi_data_wait",): 0.1,
        ("equi_training_metric", "valid/loss"): 3.0,
        ("equi_worker_memory_bytes", "1"): 2e9,
    }
