"""Both forms of the edge convolution are one map, with one set of derivatives; the faster is taken."""

from math import inf

import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.ops import EdgeConvolution, GauntConvolution, edge_convolution, rotated_convolution, spherical_harmonics
from equimodels.ops.edge_convolution import form_for
from equimodels.symmetry import Harmonic, Vector, equivariance_error
from equimodels.testing import DTYPES, EQUIVARIANCE

DEGREES = [(0, 0, 0), (2, 0, 1), (0, 2, 2), (1, 3, 2), (3, 1, 2), (2, 2, 0), (4, 4, 4), (1, 7, 7)]
POLES = torch.cat([torch.eye(3), -torch.eye(3)]).double()


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def graph(atoms, edges, seed=0):
    return torch.randint(0, atoms, (2, edges), generator=torch.Generator().manual_seed(seed))


def derivatives(form, degrees, vectors, ends, atoms, channels=2):
    """The value, and first and second derivatives by features, radial weights and vectors."""
    lmax_in, lmax_filter, lmax_out = degrees
    convolution = EdgeConvolution(*degrees, form=form).double()
    features, radial = random(atoms, channels, (lmax_in + 1) ** 2), random(len(vectors), channels, lmax_filter + 1)
    given = [tensor.requires_grad_() for tensor in (features, radial, vectors.clone())]
    out = convolution(features, radial, spherical_harmonics(lmax_filter, given[2]), *ends)
    assert out.shape == (atoms, channels, (lmax_out + 1) ** 2)
    first = torch.autograd.grad(out.square().sum(), given, create_graph=True, materialize_grads=True)
    scalar = sum(part.square().sum() for part in first)
    return out, *first, *torch.autograd.grad(scalar, given, materialize_grads=True)


def assert_the_same(degrees, vectors, ends, atoms):
    forms = (derivatives(form, degrees, vectors, ends, atoms) for form in ("grid", "rotated"))
    for grid, rotated in zip(*forms, strict=True):
        largest = float(grid.detach().abs().max()) if grid.numel() else 0.0
        assert_close(rotated, grid, rtol=0, atol=1e-12 * max(1.0, largest))


@pytest.mark.parametrize("degrees", DEGREES)
def test_both_forms_are_the_same_in_value_and_two_derivatives(degrees):
    vectors = torch.cat([random(14, 3, seed=1), 2 * POLES])
    assert_the_same(degrees, vectors, graph(5, 20), 5)


@pytest.mark.parametrize("edges", [0, 1, 3])
def test_they_are_so_of_fewer_edges_than_atoms(edges):
    assert_the_same((2, 2, 2), random(edges, 3), graph(7, edges), 7)


def test_they_are_so_in_blocks(monkeypatch):
    monkeypatch.setattr(rotated_convolution, "BLOCK", 500)
    assert_the_same((2, 2, 2), random(50, 3), graph(7, 50), 7)


def test_they_are_so_of_a_hundred_thousand_edges():
    degrees, (sender, receiver) = (1, 1, 1), graph(5000, 100_000)
    found = []
    for form in ("grid", "rotated"):
        given = [random(5000, 1, 4), random(100_000, 1, 2, seed=1), random(100_000, 3, seed=2)]
        x, radial, vectors = (tensor.requires_grad_() for tensor in given)
        convolution = EdgeConvolution(*degrees, form=form).double()
        out = convolution(x, radial, spherical_harmonics(1, vectors), sender, receiver)
        found.append((out, *torch.autograd.grad(out.square().sum(), given)))
    for grid, rotated in zip(*found, strict=True):
        assert_close(rotated, grid, rtol=0, atol=1e-12 * float(grid.detach().abs().max()))


@pytest.mark.parametrize("lmax_filter", [0, 1, 3])
def test_of_an_edge_without_length_only_degree_zero_acts(lmax_filter):
    vectors = torch.cat([torch.zeros(1, 3).double(), random(2, 3)])
    results = []
    for form in ("grid", "rotated"):
        convolution = EdgeConvolution(2, lmax_filter, 2, form=form).double()
        radial = random(3, 2, lmax_filter + 1, seed=1).requires_grad_()
        harmonics = spherical_harmonics(lmax_filter, vectors)
        out = convolution(random(3, 2, 9), radial, harmonics, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]))
        results.append((out, torch.autograd.grad(out.square().sum(), radial)[0]))
    for grid, rotated in zip(*results, strict=True):
        assert_close(rotated, grid, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["grid", "rotated", "auto"])
def test_it_commutes_with_rotations_and_reflections(form, dtype):
    convolution, (sender, receiver) = EdgeConvolution(3, 3, 3, form=form).to(dtype), graph(4, 12)
    radial = random(12, 2, 4, seed=1, dtype=dtype)

    def function(features, vectors):
        return convolution(features, radial, spherical_harmonics(3, vectors), sender, receiver)

    inputs = [random(4, 2, 16, dtype=dtype), random(12, 3, seed=2, dtype=dtype)]
    assert equivariance_error(function, inputs, [Harmonic(3), Vector()], Harmonic(3)) < EQUIVARIANCE[dtype]


def test_auto_takes_the_form_that_is_faster(monkeypatch):
    thresholds = [inf] * 13
    thresholds[3] = 20
    monkeypatch.setattr(edge_convolution, "ROTATED_FROM", thresholds)
    assert [form_for(1, 3, 2, edges, 2) for edges in (0, 9, 10, 1000)] == ["grid", "grid", "rotated", "rotated"]
    assert form_for(2, 2, 2, 1 << 40, 64) == "grid"
    assert EdgeConvolution(2, 2, 2).rotated is None
    convolution, called = EdgeConvolution(1, 3, 2).double(), []
    for name in ("grid", "rotated"):
        getattr(convolution, name).register_forward_hook(lambda *_, name=name: called.append(name))
    for edges in (9, 10):
        features, radial = random(4, 2, 4), random(edges, 2, 4)
        harmonics, ends = spherical_harmonics(3, random(edges, 3)), graph(4, edges)
        found = convolution(features, radial, harmonics, *ends)
        expected = GauntConvolution(1, 3, 2).double()(features, radial, harmonics, *ends)
        assert_close(found, expected, rtol=0, atol=1e-12)
    assert called == ["grid", "rotated"]
    exported = torch.export.export(convolution, (features, radial, harmonics, *ends))
    assert called == ["grid", "rotated", "grid"]  # one program for any number of edges
    assert_close(exported.module()(features, radial, harmonics, *ends), expected, rtol=0, atol=1e-12)


def test_tables_are_no_part_of_a_checkpoint_and_what_is_out_of_range_is_refused_by_name():
    assert not EdgeConvolution(1, 1, 1, form="rotated").state_dict()
    with pytest.raises(SettingError, match="form is 'fourier'; allowed: grid, rotated, auto"):
        EdgeConvolution(1, 1, 1, form="fourier")
    with pytest.raises(SettingError, match="lmax_filter is 13"):
        EdgeConvolution(1, 13, 1)
