"""What a worker tells its recorder before the run begins."""

import pytest
import torch

from jobs import worker
from jobs.spec.train import TrainSpec
from jobs.world import World


class Objective:
    metrics = ("loss",)


@pytest.mark.parametrize(("recompute", "peak"), [(False, 8e12), (True, None)])
def test_a_share_of_the_peak_is_not_told_of_operations_that_are_repeated(monkeypatch, recompute, peak):
    monkeypatch.setattr(worker, "peak_of", lambda device, **how: 4e12)
    spec = TrainSpec.model_validate(
        {
            "spec_version": 1,
            "kind": "train",
            "name": "tiny",
            "data": {"uri": "datasets/none@1", "batch": {"samples": 4}},
            "model": {"name": "none"},
            "objective": {"name": "none"},
            "strategy": {"recompute": recompute},
        }
    )
    plan = worker.recording_plan(spec, Objective(), World(0, 2), torch.device("cuda", 0))
    assert plan.peak == peak
