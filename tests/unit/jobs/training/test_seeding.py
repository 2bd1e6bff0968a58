"""Random numbers by place, and the deterministic mode that is switched off again."""

import os
import random

import numpy as np
import pytest
import torch

from jobs.training.seeding import EVALUATION, LAYERS, NOISE, deterministic, draws, reseed, seed_all


def test_every_micro_batch_draws_numbers_of_its_own_and_the_same_ones_again():
    def first(*place):
        return torch.rand(1, generator=draws(*place)).item()

    places = [(seed, step, part) for seed in (0, 1) for step in (0, 1, 2) for part in (0, 1)]
    assert len({first(*place) for place in places}) == len(places)
    assert first(1, 2, 1) == first(1, 2, 1)


def test_noise_layers_and_evaluations_draw_other_numbers_at_the_same_place():
    largest = 2**32 - 1
    for place in ((0, 0, 0), (7, 3, 1), (largest, 10**6, 1000)):
        first = [torch.rand(1, generator=draws(*place, stream)).item() for stream in (NOISE, LAYERS, EVALUATION)]
        assert len(set(first)) == 3
    seed_all(largest)  # what a spec allows


def test_seeding_reaches_all_generators():
    def drawn():
        seed_all(3)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert drawn() == drawn()


def test_layers_draw_the_same_numbers_wherever_a_run_was_resumed():
    def dropped(seed):
        reseed(seed, torch.device("cpu"))
        return torch.nn.functional.dropout(torch.ones(32))

    assert torch.equal(dropped(5), dropped(5))
    assert not torch.equal(dropped(5), dropped(6))


def test_the_generator_of_the_worker_s_own_gpu_is_seeded(monkeypatch):
    generators = (torch.Generator(), torch.Generator())
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    reseed(5, torch.device("cuda", 1))
    assert [generator.initial_seed() == 5 for generator in generators] == [False, True]


def test_the_deterministic_mode_ends_with_its_block():
    seen = []

    def fails():
        with deterministic(True):
            seen.append((torch.are_deterministic_algorithms_enabled(), os.environ["CUBLAS_WORKSPACE_CONFIG"]))
            raise RuntimeError("training failed")

    with pytest.raises(RuntimeError, match="training failed"):
        fails()
    assert seen == [(True, ":4096:8")]
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
