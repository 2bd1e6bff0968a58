"""The convolution in the frame of the edge: the Gaunt convolution as a case of it, every path free, O(3), the poles."""

import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.ops import (
    GauntConvolution,
    RotatedConvolution,
    gaunt_weights,
    rotated_convolution,
    spherical_harmonics,
)
from equimodels.ops.edge_frames import EdgeFrames
from equimodels.symmetry import Harmonic, Invariant, Vector, equivariance_error
from equimodels.testing import DTYPES, EQUIVARIANCE


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def graph(atoms, edges, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, atoms, (2, edges), generator=generator)


POLES = torch.cat([torch.eye(3), -torch.eye(3)]).double()


@pytest.mark.parametrize("lmax", [0, 1, 3, 6, 12])
def test_every_edge_is_laid_along_the_axis(lmax):
    directions = torch.cat([unit(random(40, 3)), POLES, unit(POLES + 1e-8 * random(6, 3, seed=1))])
    frames = EdgeFrames(lmax).double()(directions)
    harmonics = spherical_harmonics(lmax, directions)
    on_axis = spherical_harmonics(lmax, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    for degree, frame in enumerate(frames):
        where = slice(degree**2, (degree + 1) ** 2)
        turned = (frame @ harmonics[:, where, None]).squeeze(-1)
        assert_close(turned, on_axis[where].expand_as(turned), rtol=0, atol=1e-12)
        eye = torch.eye(2 * degree + 1, dtype=torch.float64).expand_as(frame)
        assert_close(frame @ frame.mT, eye, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degrees", [(0, 2, 2), (2, 2, 2), (3, 1, 2), (1, 3, 2), (4, 4, 4)])
def test_with_the_weights_of_a_filter_it_is_the_gaunt_convolution(degrees):
    lmax_in, lmax_filter, lmax_out = degrees
    features, radial = random(5, 3, (lmax_in + 1) ** 2), random(20, 3, lmax_filter + 1, seed=1)
    directions, (sender, receiver) = unit(random(20, 3, seed=2)), graph(5, 20)
    harmonics = spherical_harmonics(lmax_filter, directions)
    expected = GauntConvolution(*degrees).double()(features, radial, harmonics, sender, receiver)
    rotated = RotatedConvolution(lmax_in, lmax_out).double()
    found = rotated(features, radial @ gaunt_weights(*degrees), directions, sender, receiver)
    assert_close(found, expected, rtol=0, atol=1e-11)


def test_its_weights_are_as_many_as_paths_of_even_sum():
    for lmax_in, lmax_out in ((2, 2), (3, 1), (4, 4)):
        paths = [
            (a, f, b)
            for a in range(lmax_in + 1)
            for b in range(lmax_out + 1)
            for f in range(abs(a - b), a + b + 1)
            if (a + f + b) % 2 == 0
        ]
        assert RotatedConvolution(lmax_in, lmax_out).number == len(paths)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("lmax_in", "lmax_out", "mmax"), [(2, 2, None), (3, 1, None), (6, 6, 2), (8, 8, None)])
def test_it_commutes_with_rotations_and_reflections(lmax_in, lmax_out, mmax, dtype):
    convolution = RotatedConvolution(lmax_in, lmax_out, mmax).to(dtype)
    sender, receiver = graph(4, 12)
    inputs = [random(4, 2, (lmax_in + 1) ** 2, dtype=dtype), random(12, 2, convolution.number, seed=1, dtype=dtype)]
    inputs.append(unit(random(12, 3, seed=2)).to(dtype))

    def function(features, weights, directions):
        return convolution(features, weights, directions, sender, receiver)

    representations = [Harmonic(lmax_in), Invariant(convolution.number), Vector()]
    error = equivariance_error(function, inputs, representations, Harmonic(lmax_out))
    assert error < min(EQUIVARIANCE[dtype], 1e-5)


def test_weights_that_differ_between_m_and_minus_m_are_not_equivariant():
    convolution = RotatedConvolution(2, 2).double()
    convolution.inwards[[3, 5]] = convolution.inwards[[5, 3]]  # what stands at m = 1 takes the place of m = -1
    sender, receiver = graph(4, 12)

    def function(features, weights, directions):
        return convolution(features, weights, directions, sender, receiver)

    inputs = [random(4, 2, 9), random(12, 2, convolution.number, seed=1), unit(random(12, 3, seed=2))]
    assert equivariance_error(function, inputs, [Harmonic(2), Invariant(14), Vector()], Harmonic(2)) > 1e-2


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_it_can_be_differentiated_twice_at_the_poles_too():
    convolution = RotatedConvolution(2, 1).double()
    sender, receiver = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([1, 0, 0, 1, 0])
    vectors = torch.cat([2 * POLES[[1, 4, 0]], random(2, 3, seed=2)]).requires_grad_()
    inputs = random(2, 1, 9).requires_grad_(), random(5, 1, convolution.number, seed=1).requires_grad_(), vectors

    def function(features, weights, vectors):
        return convolution(features, weights, unit(vectors), sender, receiver)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_in_blocks_it_is_the_same_and_so_are_its_derivatives(monkeypatch):
    convolution, (sender, receiver) = RotatedConvolution(2, 2).double(), graph(6, 50)
    inputs = [random(6, 2, 9), random(50, 2, convolution.number, seed=1), unit(random(50, 3, seed=2))]
    found = []
    for block in (1 << 22, 300):
        monkeypatch.setattr(rotated_convolution, "BLOCK", block)
        given = [tensor.clone().requires_grad_() for tensor in inputs]
        out = convolution(*given, sender, receiver)
        first = torch.autograd.grad(out.square().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), given)
        found.append((out, *first, *second))
    for whole, blocks in zip(*found, strict=True):
        assert_close(whole, blocks, rtol=1e-10, atol=1e-10)


def test_no_edges_one_edge_and_weights_that_all_channels_share():
    convolution = RotatedConvolution(1, 2).double()
    features, none = random(3, 2, 4), torch.empty(2, 0, dtype=torch.int64)
    empty = convolution(features, features.new_zeros(0, 2, convolution.number), features.new_zeros(0, 3), *none)
    assert empty.shape == (3, 2, 9)
    assert not empty.any()
    weights, direction = random(1, 1, convolution.number), unit(random(1, 3))
    one = convolution(features, weights, direction, torch.tensor([2]), torch.tensor([0]))
    assert_close(one, convolution(features, weights.expand(1, 2, -1), direction, torch.tensor([2]), torch.tensor([0])))
    assert one[0].any()
    assert not one[1:].any()


def test_it_compiles_as_one_graph_and_is_exported():
    convolution, (sender, receiver) = RotatedConvolution(2, 2).double(), graph(6, 20)
    given = random(6, 2, 9), random(20, 2, convolution.number, seed=1), unit(random(20, 3, seed=2)), sender, receiver
    compiled = torch.compile(convolution, fullgraph=True, backend="aot_eager")
    assert_close(compiled(*given), convolution(*given))
    exported = torch.export.export(convolution, given)
    assert_close(exported.module()(*given), convolution(*given))


def test_what_is_out_of_range_is_refused_by_name():
    with pytest.raises(SettingError, match="mmax is 3"):
        RotatedConvolution(2, 4, 3)
    with pytest.raises(SettingError, match="lmax_in is 13"):
        RotatedConvolution(13, 1)
