"""Neighbours and graphs: complete, in one order, and picky about their input."""

import numpy as np
import pytest
import torch

from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.neighbours import neighbour_pairs


def positions(count=30):
    return np.random.default_rng(0).uniform(0, 6, (count, 3))


def test_neighbours_are_those_of_the_double_loop():
    x = positions()
    slow = [
        (i, j) for i in range(len(x)) for j in range(len(x)) if i != j and np.linalg.norm(x[i] - x[j]) <= 2.5
    ]  # already in the order promised
    assert neighbour_pairs(x, 2.5).T.tolist() == [list(pair) for pair in slow]


def test_a_pair_at_exactly_the_cutoff_counts():
    assert neighbour_pairs(np.array([[0.0, 0, 0], [2.5, 0, 0]]), 2.5).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_atoms_have_no_neighbours(count):
    assert neighbour_pairs(np.zeros((count, 3)), 5.0).shape == (2, 0)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (np.zeros((2, 2)), "shape"),
        (np.array([[0.0, np.nan, 0]]), "not finite"),
        (np.array([[1.0, 0, 0], [0, 0, 0], [1.0, 0, 0]]), "atoms 0 and 2 coincide"),
    ],
)
def test_positions_that_make_no_sense_are_refused(bad, match):
    with pytest.raises(ValueError, match=match):
        neighbour_pairs(bad, 5.0)


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
