"""Neighbours: complete, in one order, the same bit by bit whichever way they are found, and picky about their input."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import ase
import ase.build
import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from equimodels.models import all_pairs, cell_lists, pair_search
from equimodels.models.neighbours import Pairs, neighbour_pairs, neighbour_pairs_of_many

CUTOFF = 3.0


def slow_pairs(x, cutoff, cell=None, pbc=(False, False, False)):
    """Rows (i, j, S) in order: every atom with every image of every atom that could possibly be near."""
    cell = np.where(np.array(pbc)[:, None], 0.0 if cell is None else cell, 0.0)
    reach = [0, 0, 0]
    if any(pbc) and len(x):
        # Coordinates along a lattice vector differ by at most the diameter over the distance of lattice planes.
        planes = np.linalg.norm(np.linalg.pinv(cell), axis=0)
        diameter = np.linalg.norm(x[:, None] - x[None, :], axis=-1).max()
        reach = np.ceil((cutoff + diameter) * planes).astype(int) * np.array(pbc)
    rows = []
    for s in itertools.product(*[range(-r, r + 1) for r in reach]):
        step = (x[None, :] - x[:, None]) + ((s[0] * cell[0] + s[1] * cell[1]) + s[2] * cell[2])
        near = (step[..., 0] ** 2 + step[..., 1] ** 2) + step[..., 2] ** 2 <= cutoff**2
        if s == (0, 0, 0):
            np.fill_diagonal(near, False)
        rows += [(int(i), int(j), *s) for i, j in np.argwhere(near)]
    return sorted(rows)


def rows(pairs):
    return [tuple(row) for row in np.column_stack([pairs.edges.T, pairs.images]).tolist()]


def random_structure(seed, size, pbc, spread=2.0):
    """Positions up to `spread` cells away, and a skewed cell with lattice planes 1.5 to 7 angstrom apart."""
    random = np.random.default_rng(seed)
    shape = np.eye(3) + np.tril(random.uniform(-0.6, 0.6, (3, 3)), -1)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    cell = (random.uniform(2, 7, 3)[:, None] * shape) @ turn
    x = random.uniform(-spread, spread, (size, 3)) * np.where(pbc, 1, 3 / spread) @ cell
    cell[~np.array(pbc, dtype=bool)] = random.choice([0.0, 1.0, np.nan])  # of no importance
    return x, cell


structures = st.tuples(
    st.integers(0, 2**32), st.integers(0, 30), st.tuples(st.booleans(), st.booleans(), st.booleans())
)
often = settings(max_examples=60, deadline=None)


@given(structures)
@often
def test_neighbours_are_those_of_the_loop_over_all_atoms_and_images(structure):
    seed, size, pbc = structure
    x, cell = random_structure(seed, min(size, 12), pbc)
    assert rows(neighbour_pairs(x, CUTOFF, cell, pbc)) == slow_pairs(x, CUTOFF, cell, pbc)


@given(structures)
@often
def test_every_pair_is_there_in_both_directions(structure):
    seed, size, pbc = structure
    x, cell = random_structure(seed, size, pbc)
    found = rows(neighbour_pairs(x, CUTOFF, cell, pbc))
    assert sorted((j, i, -a, -b, -c) for i, j, a, b, c in found) == found


@given(structures)
@often
def test_an_atom_moved_by_lattice_vectors_keeps_its_neighbours_and_changes_their_images(structure):
    seed, size, pbc = structure
    x, cell = random_structure(seed, size, pbc)
    away = np.random.default_rng(seed).integers(-3, 4, x.shape) * np.array(pbc)
    found = neighbour_pairs(x, CUTOFF, cell, pbc)
    moved = neighbour_pairs(x + away @ np.where(np.array(pbc)[:, None], cell, 0), CUTOFF, cell, pbc)
    expected = found.images + away[found.edges[0]] - away[found.edges[1]]
    assert rows(moved) == rows(Pairs(found.edges, expected))


@given(structures)
@often
def test_neighbours_follow_a_permutation_of_the_atoms(structure):
    seed, size, pbc = structure
    x, cell = random_structure(seed, size, pbc)
    order = np.random.default_rng(seed).permutation(size)
    permuted = rows(neighbour_pairs(x[order], CUTOFF, cell, pbc))
    expected = rows(neighbour_pairs(x, CUTOFF, cell, pbc))
    assert sorted((int(order[i]), int(order[j]), *s) for i, j, *s in permuted) == [(i, j, *s) for i, j, *s in expected]


@given(structures)
@often
def test_neighbours_stay_under_a_rotation(structure):
    seed, size, pbc = structure
    x, cell = random_structure(seed, size, pbc)
    turn = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(3, 3)))[0]
    turned = neighbour_pairs(x @ turn, CUTOFF, np.nan_to_num(cell) @ turn, pbc)
    assert rows(turned) == rows(neighbour_pairs(x, CUTOFF, cell, pbc))


@given(st.lists(structures, max_size=6), st.booleans(), st.sampled_from([0, 10, 512]))
@often
def test_many_structures_give_what_each_gives_alone(several, tiny_blocks, small):
    built = [(*random_structure(seed, size, pbc), pbc) for seed, size, pbc in several]
    positions = np.concatenate([np.empty((0, 3)), *(x for x, _, _ in built)])
    sizes = np.array([len(x) for x, _, _ in built], dtype=np.int64)
    cells = np.stack([cell for _, cell, _ in built]) if built else np.empty((0, 3, 3))
    pbc = np.array([pbc for *_, pbc in built], dtype=bool).reshape(-1, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_search, "SMALL", small)  # above, by cell lists: none, some or all
        patch.setattr(pair_search, "TOGETHER", 20_000)
        if tiny_blocks:
            patch.setattr(all_pairs, "BLOCK", 150)
            patch.setattr(all_pairs, "PADDING", 20)
        found = neighbour_pairs_of_many(positions, sizes, CUTOFF, cells, pbc)
    alone = [neighbour_pairs(x, CUTOFF, cell, pbc) for x, cell, pbc in built]
    first = np.cumsum(sizes) - sizes
    expected = [(i + n, j + n, *s) for n, pairs in zip(first, alone, strict=True) for i, j, *s in rows(pairs)]
    assert rows(found) == expected
    assert found.edges_per_structure.tolist() == [pairs.edges.shape[1] for pairs in alone]


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3, 5, 6, 9]), st.booleans(), st.sampled_from([0, 512]))
@often
def test_pairs_of_a_perfect_crystal_count_by_the_rounding_of_their_distance(seed, squared, turned, small):
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0] if turned else np.eye(3)
    points = random.permutation(np.argwhere(np.ones((3, 3, 3))))[:8] + 3 * random.integers(-1, 2, (8, 3))
    constant = random.uniform(0.8, 1.2)
    x, cell = constant * points @ turn, 3 * constant * turn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_search, "SMALL", small)
        found = neighbour_pairs(x, constant * squared**0.5, cell)
    assert rows(found) == slow_pairs(x, constant * squared**0.5, cell, (True, True, True))


@pytest.mark.parametrize("cutoff", [2.0, 5.0])
def test_cell_lists_find_bit_by_bit_what_looking_at_all_pairs_finds(monkeypatch, cutoff):
    random = np.random.default_rng(3)
    sizes = np.array([0, 700, 1, 40, 2, 600, 0, 3])
    positions = random.uniform(0, 12, (sizes.sum(), 3)) + np.repeat(
        random.normal(scale=1e3, size=(8, 3)), sizes, axis=0
    )
    found = []
    for small in (0, 100, 1000):
        monkeypatch.setattr(pair_search, "SMALL", small)
        found.append(neighbour_pairs_of_many(positions, sizes, cutoff))
    assert found[0].edges.shape[1] > 10_000
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("small", [0, 512])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e7])
def test_a_pair_a_rounding_error_from_the_cutoff_counts_as_in_the_loop(monkeypatch, small, offset):
    monkeypatch.setattr(pair_search, "SMALL", small)
    random = np.random.default_rng(0)
    direction = random.normal(size=(400, 3))
    distance = CUTOFF * (1 + random.choice([-1e-9, -1e-12, -2e-16, 0, 2e-16, 1e-12, 1e-9], 400))
    x = np.zeros((800, 3))
    x[1::2] = direction / np.linalg.norm(direction, axis=1)[:, None] * distance[:, None]
    x += np.repeat(100.0 * np.arange(400), 2)[:, None] + offset
    step = x[1::2] - x[::2]
    near = (step[:, 0] ** 2 + step[:, 1] ** 2) + step[:, 2] ** 2 <= CUTOFF**2
    assert 0 < near.sum() < 400
    found = neighbour_pairs(x, CUTOFF).edges
    assert found[0].reshape(-1, 2)[:, 0].tolist() == (2 * np.flatnonzero(near)).tolist()


def test_a_pair_at_exactly_the_cutoff_counts():
    pairs = neighbour_pairs(np.array([[0.0, 0, 0], [2.5, 0, 0]]), 2.5)
    assert pairs.edges.tolist() == [[0, 1], [1, 0]]
    assert not pairs.images.any()


def test_a_simple_cubic_lattice_has_32_neighbours_within_two_lattice_constants():
    pairs = neighbour_pairs(np.full((1, 3), 0.3), 2.0, np.eye(3), np.ones(3, dtype=bool))
    assert pairs.edges.shape == (2, 32)
    assert (pairs.images**2).sum(axis=1).max() == 4


def test_all_directions_of_a_cell_repeat_unless_said_otherwise():
    x, cell = np.zeros((1, 3)), 2.5 * np.eye(3)
    assert neighbour_pairs(x, CUTOFF, cell).edges.shape == (2, 6)
    assert neighbour_pairs(x, CUTOFF, cell, [True, True, False]).edges.shape == (2, 4)
    assert neighbour_pairs(x, CUTOFF, cell, [False] * 3).edges.shape == (2, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_atoms_have_no_neighbours(count):
    pairs = neighbour_pairs(np.zeros((count, 3)), 5.0)
    assert pairs.edges.shape == (2, 0)
    assert pairs.images.shape == (0, 3)
    assert pairs.edges.dtype == pairs.images.dtype == np.int64


def test_no_structures_have_no_neighbours():
    found = neighbour_pairs_of_many(np.empty((0, 3)), np.empty(0, dtype=np.int64), 5.0)
    assert [array.shape for array in found] == [(2, 0), (0, 3), (0,)]


@pytest.mark.parametrize(
    "atoms",
    [
        ase.build.bulk("Cu"),
        ase.build.bulk("NaCl", "rocksalt", a=5.64) * (2, 1, 1),
        ase.build.fcc111("Al", (2, 3, 3), vacuum=6.0),
        ase.build.nanotube(3, 3, length=2),
        ase.build.molecule("C60"),
        ase.Atoms(
            "CO2", [[0.1, 0, 0], [1.3, 0, 0.1], [-1, 0.2, 0]], cell=[[4, 0, 0], [1.5, 3, 0], [-1, 1, 5]], pbc=True
        ),
    ],
    ids=["primitive cell", "rock salt", "slab", "nanotube", "molecule", "triclinic"],
)
def test_ase_finds_the_same_neighbours(atoms):
    atoms.rattle(0.01, seed=0)
    i, j, images = neighbor_list("ijS", atoms, 4.2)
    expected = sorted(zip(i.tolist(), j.tolist(), *images.T.tolist(), strict=True))
    assert rows(neighbour_pairs(atoms.positions, 4.2, atoms.cell.array, atoms.pbc)) == expected
    assert len(expected) > 0


@pytest.mark.parametrize("long", [1e4, 1e7, 1e12])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, False), (False, True, True), (True, True, True)])
def test_a_box_of_any_length_is_searched(long, axis, pbc):
    """The library divides by zero in boxes far longer than wide, and so ends the process: see `_search_radius`."""
    random = np.random.default_rng(0)
    x = random.uniform(0, 5, (600, 3))
    x[300:, axis] += long / 3
    cell = 6 * np.eye(3)
    cell[axis, axis] = long
    halves = [neighbour_pairs(part, 1.0, cell, pbc) for part in (x[:300], x[300:])]
    assert rows(neighbour_pairs(x, 1.0, cell, pbc)) == [
        (i + 300 * n, j + 300 * n, *s) for n, half in enumerate(halves) for i, j, *s in rows(half)
    ]


@pytest.mark.parametrize(
    "box", [np.diag([1.0, 1, 1e7]), np.diag([1e7, 1, 1]), np.diag([2e5, 1, 2e5]), 200 * np.eye(3), np.eye(3)]
)
def test_a_search_radius_leaves_a_cell_along_each_direction(box):
    radius = cell_lists._search_radius(box, 0.5)
    a, b, c = np.maximum(np.diag(box) // radius, 1)
    if a * b * c > 1e5:  # what the library then does
        c, ratios = np.trunc(np.cbrt(1e5 / (a / b * (b / c) ** 2))), (a / b, b / c)
        b = np.trunc(ratios[1] * c)
        a = np.trunc(ratios[0] * b)
    assert min(a, b, c) >= 1
    assert radius >= 0.5


def test_pairs_too_many_for_one_integer_are_sorted_alike(monkeypatch):
    x, cell = random_structure(5, 20, (True, True, True))
    expected = rows(neighbour_pairs(x, 6.0, cell))
    monkeypatch.setattr(cell_lists, "LARGEST_KEY", 0)
    assert rows(neighbour_pairs(x, 6.0, cell)) == expected


def test_threads_do_not_disturb_each_other():
    random = np.random.default_rng(0)
    work = []
    for n in range(24):
        sizes = random.integers(0, 40, 50)
        x = random.uniform(0, 8, (sizes.sum(), 3))
        work.append((x, sizes, CUTOFF, np.tile(8 * np.eye(3), (50, 1, 1)), np.full((50, 3), n % 2 == 0)))
    alone = [neighbour_pairs_of_many(*each) for each in work]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda each: neighbour_pairs_of_many(*each), work))
    for a, b in zip(alone, together, strict=True):
        assert all(np.array_equal(one, two) for one, two in zip(a, b, strict=True))


WATER = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((np.zeros((2, 2)), 5.0), "shape"),
        ((np.array([[0.0, np.nan, 0]]), 5.0), "not finite"),
        ((np.array([[1.0, 0, 0], [0, 0, 0], [1.0, 0, 0]]), 5.0), "atoms 0 and 2 coincide"),
        ((WATER, 0.0), "cutoff is 0.0"),
        ((WATER, np.inf), "cutoff is inf"),
        ((WATER, 5.0, np.eye(2)), r"cell has shape \(2, 2\)"),
        ((WATER, 5.0, np.full((3, 3), np.nan)), "cell holds a value that is not finite"),
        ((WATER, 5.0, np.ones((3, 3))), "singular"),
        ((WATER, 5.0, np.diag([3.0, 3, 0]), [True, False, True]), "singular"),
        ((WATER, 5.0, None, [True, False, False]), "no cell"),
        ((WATER, 5.0, np.eye(3), [True, False]), r"pbc has shape \(2,\)"),
        ((WATER, 5.0, 1e-7 * np.eye(3), [True, False, False]), "so small"),
        ((WATER, 5.0, np.diag([1.0, 3, 3])), "atom 0 and a periodic image of atom 1 coincide"),
        ((WATER * 1e12, 5.0, 3 * np.eye(3)), "cells away"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        neighbour_pairs(*arguments)


@pytest.mark.parametrize("cells", [None, np.tile(9 * np.eye(3), (3, 1, 1))])
def test_a_structure_with_coinciding_atoms_is_named_among_many(cells):
    positions = np.concatenate([WATER, WATER + 3, WATER[[0, 1, 1]]])
    with pytest.raises(ValueError, match="structure 2: atoms 1 and 2 coincide"):
        neighbour_pairs_of_many(positions, np.array([3, 3, 3]), 5.0, cells)


@pytest.mark.parametrize("sizes", [[2, 2], [3, -1, 1], [[3]]])
def test_sizes_have_to_add_up(sizes):
    with pytest.raises(ValueError, match="add up to N"):
        neighbour_pairs_of_many(WATER, np.array(sizes), 5.0)
