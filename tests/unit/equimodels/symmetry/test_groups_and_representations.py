"""Groups obey their axioms, representations are homomorphisms, and the measure tells what commutes from what not."""

import pytest
import torch
from torch.testing import assert_close

from equimodels.symmetry import (
    Axial,
    Euclidean,
    Harmonic,
    Invariant,
    Items,
    Orthogonal,
    Permutations,
    Point,
    Product,
    Pseudo,
    Sum,
    Vector,
    act,
    equivariance_error,
)

SPATIAL = [Orthogonal(), Orthogonal(reflections=False), Axial(), Euclidean(), Euclidean(None), Euclidean(Axial())]
GROUPS = [*SPATIAL, Permutations(1), Permutations(7)]
REPRESENTATIONS = [
    Invariant(3),
    Vector(),
    Point(),
    Harmonic(3),
    Pseudo(Vector()),
    Pseudo(Invariant()),
    Sum((Invariant(2), Harmonic(2), Vector())),
    Product((Vector(), Vector(), Pseudo(Vector()))),
]
PAIRS = [(group, representation) for group in SPATIAL for representation in REPRESENTATIONS]
PAIRS += [(Permutations(5), Items()), (Permutations(5), Invariant(3))]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


@pytest.mark.parametrize("group", GROUPS, ids=repr)
def test_a_group_obeys_the_axioms(group):
    a, b, c = group.sample(3, generator())
    identity = group.identity()
    same = {"rtol": 0, "atol": 1e-13}
    assert_close(group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c)), **same)
    assert_close(group.compose(a, identity), a, **same)
    assert_close(group.compose(identity, a), a, **same)
    assert_close(group.compose(a, group.inverse(a)), identity, **same)
    assert_close(group.compose(group.inverse(a), a), identity, **same)
    assert len(group.sample(0)) == 0


@pytest.mark.parametrize("group", SPATIAL, ids=repr)
def test_samples_repeat_with_the_seed_and_are_orthogonal(group):
    elements = group.sample(5, generator())
    assert torch.equal(elements, group.sample(5, generator()))
    linear = elements[:, :3, :3]
    assert_close(linear.mT @ linear, torch.eye(3, dtype=torch.float64).expand(5, 3, 3), rtol=0, atol=1e-14)


def test_rotations_have_determinant_one_and_half_of_o3_has_minus_one():
    for group in (Orthogonal(reflections=False), Axial()):
        assert_close(torch.linalg.det(group.sample(50, generator())), torch.ones(50, dtype=torch.float64))
    assert abs(torch.linalg.det(Orthogonal().sample(1000, generator())).mean()) < 0.1


def test_the_axis_of_axial_stays():
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert_close(Axial().sample(5, generator()) @ up, up.expand(5, 3))


@pytest.mark.parametrize(("group", "representation"), PAIRS, ids=repr)
def test_a_representation_is_a_homomorphism(group, representation):
    first, second = group.sample(2, generator())
    matrix = representation.matrix
    assert_close(matrix(group.compose(first, second)), matrix(first) @ matrix(second), rtol=0, atol=1e-12)
    eye = matrix(group.identity())
    assert_close(eye, torch.eye(len(eye), dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("representation", REPRESENTATIONS, ids=repr)
def test_a_batch_of_elements_gives_a_batch_of_matrices(representation):
    elements = Euclidean().sample(4, generator())
    one_by_one = torch.stack([representation.matrix(element) for element in elements])
    together = representation.matrix(elements)
    assert_close(together.expand_as(one_by_one), one_by_one, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("group", "representation"), [p for p in PAIRS if isinstance(p[1], Point | Items)], ids=repr)
def test_an_action_of_its_own_is_that_of_the_matrix(group, representation):
    element, x = group.sample(1, generator())[0], random(2, 5, 3)
    found = act(representation, element, x)
    if isinstance(representation, Items):
        expected = representation.matrix(element) @ x
    elif len(element) == 3:
        expected = x @ element.mT
    else:
        expected = (torch.cat([x, torch.ones(2, 5, 1)], dim=-1) @ element.mT)[..., :3]
    assert_close(found, expected)


def test_items_may_lie_along_any_dimension():
    element, x = Permutations(4).sample(1, generator(3))[0], random(4, 2, 3)
    assert torch.equal(act(Items(0), element, x)[element], x)
    assert torch.equal(act(Items(), element, x.movedim(0, -2)).movedim(-2, 0)[element], x)


def test_the_cross_product_is_an_axial_vector_and_not_a_vector():
    inputs, reps = [random(5, 3), random(5, 3, seed=1)], [Vector(), Vector()]
    assert equivariance_error(torch.linalg.cross, inputs, reps, Pseudo(Vector())) < 1e-14
    assert equivariance_error(torch.linalg.cross, inputs, reps, Vector()) > 0.1
    assert equivariance_error(torch.linalg.cross, inputs, reps, Vector(), group=Orthogonal(reflections=False)) < 1e-14


def test_the_outer_product_is_a_product_and_a_concatenation_a_sum():
    x, y = random(5, 3), random(5, 9, seed=1)
    reps = [Vector(), Harmonic(2)]
    outer = equivariance_error(
        lambda a, b: torch.einsum("ni,nj->nij", a, b).flatten(1), [x, y], reps, Product(tuple(reps))
    )
    side = equivariance_error(lambda a, b: torch.cat([a, b], dim=1), [x, y], reps, Sum(tuple(reps)))
    assert max(outer, side) < 1e-13


def test_distances_are_invariant_under_motions_and_lengths_are_not():
    x = random(6, 3)
    assert equivariance_error(torch.pdist, [x], [Point()], Invariant(15), group=Euclidean()) < 1e-14
    lengths = equivariance_error(lambda x: x.norm(dim=1), [x], [Point()], Invariant(6), group=Euclidean(None))
    assert lengths > 0.1


def test_several_outputs_are_each_measured_on_their_own_scale():
    def both(x):
        return 1e6 * x.norm(dim=-1, keepdim=True), x + torch.tensor([0.1, 0, 0])

    right = equivariance_error(
        lambda x: (x.norm(dim=-1, keepdim=True), x), [random(5, 3)], [Vector()], [Invariant(), Vector()]
    )
    assert right < 1e-14
    assert equivariance_error(both, [random(5, 3)], [Vector()], [Invariant(), Vector()]) > 0.01
    with pytest.raises(ValueError, match="2 outputs for 1"):
        equivariance_error(both, [random(5, 3)], [Vector()], [Vector()])


def test_a_sum_is_permutation_invariant_and_a_running_sum_is_not():
    x, group = random(4, 6, 3), Permutations(6)
    total = equivariance_error(lambda x: x.sum(dim=-2), [x], [Items()], Invariant(3), group=group)
    running = equivariance_error(lambda x: x.cumsum(dim=-2), [x], [Items()], Items(), group=group)
    assert total < 1e-14 < 0.1 < running
