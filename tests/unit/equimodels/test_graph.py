"""Graphs: structures side by side, periodic or not, and picky about their input."""

import numpy as np
import pytest
import torch

from equimodels.models.graph import AtomGraph, Structure


def positions(count=30):
    return np.random.default_rng(0).uniform(0, 6, (count, 3))


def test_a_structure_needs_one_position_an_atom():
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        Structure.of(np.array([1, 1, 8]), np.zeros((2, 3)), 5.0)


def test_collation_keeps_structures_apart_and_in_order():
    parts = [Structure.of(np.full(n, n), positions(n), 3.0) for n in (4, 1, 6)]
    graph = AtomGraph.collate(parts)
    assert graph.structures == 3
    assert graph.numbers.tolist() == [4] * 4 + [1] + [6] * 6
    assert graph.owner.tolist() == [0] * 4 + [1] + [2] * 6
    assert torch.equal(graph.owner[graph.edges[0]], graph.owner[graph.edges[1]])
    assert torch.equal(graph.edges[:, graph.owner[graph.edges[0]] == 2] - 5, parts[2].edges)
    assert graph.shifts.shape == (graph.edges.shape[1], 3)
    assert not graph.shifts.any()


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        AtomGraph.collate([])


def test_a_cast_touches_lengths_and_not_indices():
    graph = AtomGraph.collate([Structure.of(np.ones(3), positions(3), 9.0)]).to(dtype=torch.float32)
    assert graph.positions.dtype == graph.shifts.dtype == torch.float32
    assert graph.numbers.dtype == graph.edges.dtype == graph.owner.dtype == torch.int64
