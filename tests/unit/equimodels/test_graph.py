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


CELL = np.array([[3.0, 0, 0], [1.0, 2.8, 0], [0, -0.5, 3.5]])


def test_the_edges_of_a_crystal_reach_images_by_their_shifts():
    crystal = Structure.of(np.ones(4), positions(4), 4.0, cell=CELL)
    graph = AtomGraph.collate([crystal])
    sender, receiver = graph.edges
    length = (graph.positions[receiver] - graph.positions[sender] + graph.shifts).norm(dim=1)
    assert len(length) > 4 * 20
    assert 0 < length.min() <= length.max() <= 4.0
    images = graph.shifts.numpy() @ np.linalg.inv(CELL)
    assert np.abs(images - images.round()).max() < 1e-12
    assert np.abs(images).max() > 0.5
    assert torch.equal(crystal.cell, torch.from_numpy(CELL))
    assert crystal.pbc.tolist() == [True] * 3


def test_only_directions_that_repeat_have_shifts():
    cell = np.array([[3.0, 0, 0], [1, 2.8, 0], [np.nan] * 3])
    slab = Structure.of(np.ones(4), positions(4), 4.0, cell=cell, pbc=[True, True, False])
    assert slab.shifts[:, :2].any()
    assert not slab.shifts[:, 2].any()
    still = Structure.of(np.ones(4), positions(4), 4.0, cell=CELL, pbc=[False] * 3)
    assert not still.shifts.any()
    assert torch.equal(still.edges, Structure.of(np.ones(4), positions(4), 4.0).edges)


def test_crystals_and_molecules_share_a_graph():
    parts = [
        Structure.of(np.ones(3), positions(3), 4.0, torch.float32),
        Structure.of(np.ones(2), positions(2), 4.0, torch.float32, cell=CELL),
        Structure.of(np.ones(5), positions(5), 4.0, torch.float32),
    ]
    graph = AtomGraph.collate(parts)
    periodic = graph.owner[graph.edges[0]] == 1
    assert torch.equal(graph.shifts[periodic], parts[1].shifts)
    assert not graph.shifts[~periodic].any()
    assert graph.shifts.dtype == torch.float32
    assert graph.shifts.shape == (graph.edges.shape[1], 3)


def test_a_cell_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="singular"):
        Structure.of(np.ones(4), positions(4), 4.0, cell=np.ones((3, 3)))
