"""The backends of the Gaunt product are one map, in every way it is called."""

import copy

import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.ops import GauntProduct, gaunt_coefficients, row_blocks, trilinear_blocks
from equimodels.symmetry import Harmonic, equivariance_error
from equimodels.testing import DTYPES, EQUIVARIANCE

BACKENDS = ["quadrature", "dense", "fourier"]
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("degrees", [(0, 0, 0), (1, 1, 1), (3, 1, 2), (1, 2, 5), (4, 4, 4), (8, 8, 8)])
def test_every_backend_contracts_with_the_gaunt_table(backend, degrees):
    l1, l2, _ = degrees
    x, y = random(5, 2, (l1 + 1) ** 2), random(5, 1, (l2 + 1) ** 2, seed=1)
    expected = torch.einsum("nci,ncj,ijk->nck", x, y.expand(-1, 2, -1), gaunt_coefficients(*degrees))
    found = GauntProduct(*degrees, backend=backend).double()(x, y)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_commutes_with_rotations_and_reflections(backend, dtype):
    inputs = [random(5, 2, 16, dtype=dtype), random(5, 2, 9, seed=1, dtype=dtype)]
    product = GauntProduct(3, 2, 3, backend=backend).to(dtype)
    error = equivariance_error(product, inputs, [Harmonic(3), Harmonic(2)], Harmonic(3))
    assert error < min(EQUIVARIANCE[dtype], 1e-5)


def test_a_table_with_one_entry_changed_is_not_equivariant():
    product = GauntProduct(2, 2, 2, backend="dense").double()
    product.product.table[40, 4] += 0.1
    assert equivariance_error(product, [random(5, 9), random(5, 9, seed=1)], [Harmonic(2)] * 2, Harmonic(2)) > 1e-3


def test_folding_does_not_hide_a_grid_that_is_too_coarse():
    inputs = [random(3, 81), random(3, 81, seed=1)]
    for degree, exact in ((24, True), (21, False)):
        product = GauntProduct(8, 8, 8, degree=degree).double()
        assert (equivariance_error(product, inputs, [Harmonic(8)] * 2, Harmonic(8)) < 1e-10) == exact


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_can_be_differentiated_twice(backend):
    x, y = random(2, 4).requires_grad_(), random(2, 4, seed=1).requires_grad_()
    product = GauntProduct(1, 1, 2, backend=backend).double()
    assert torch.autograd.gradcheck(product, (x, y))
    assert torch.autograd.gradgradcheck(product, (x, y))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_compiles_as_one_graph(backend):
    x, y = random(6, 2, 9).requires_grad_(), random(6, 2, 9, seed=1).requires_grad_()
    product = GauntProduct(2, 2, 2, backend=backend).double()
    compiled = torch.compile(product, fullgraph=True, backend="aot_eager")  # inductor writes no complex numbers
    assert_close(compiled(x, y), product(x, y))
    for found, expected in zip(
        torch.autograd.grad(compiled(x, y).sum(), (x, y)), torch.autograd.grad(product(x, y).sum(), (x, y)), strict=True
    ):
        assert_close(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_is_exported_for_any_number_of_rows(backend):
    product = GauntProduct(2, 2, 2, backend=backend).double()
    rows = torch.export.Dim("rows", min=2)
    x, y = random(6, 2, 9), random(6, 2, 9, seed=1)
    exported = torch.export.export(product, (x, y), dynamic_shapes={"x": {0: rows}, "y": {0: rows}})
    x, y = random(11, 2, 9, seed=2), random(11, 2, 9, seed=3)
    assert_close(exported.module()(x, y), product(x, y))


@pytest.mark.parametrize("backend", BACKENDS)
def test_under_autocast_every_backend_is_as_exact_as_its_numbers(backend):
    x, y = random(6, 2, 9, dtype=torch.float32), random(6, 2, 9, seed=1, dtype=torch.float32)
    product = GauntProduct(2, 2, 2, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        found = product(x.requires_grad_(), y)
    found.float().sum().backward()
    assert x.grad.dtype == torch.float32
    assert_close(found.float(), product(x, y), rtol=0.03, atol=0.1)


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_row_and_one_row_are_rows(backend, rows):
    product = GauntProduct(2, 2, 2, backend=backend).double()
    x, y = random(rows, 3, 9).requires_grad_(), random(rows, 3, 9, seed=1)
    assert product(x, y).shape == (rows, 3, 9)
    assert torch.autograd.grad(product(x, y).sum(), x)[0].shape == x.shape


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_rows_are_as_few(backend, monkeypatch):
    monkeypatch.setattr(trilinear_blocks, "BLOCK", 1 << 10)
    monkeypatch.setattr(row_blocks, "BLOCK", 1 << 10)
    product = GauntProduct(2, 1, 2, backend=backend).double()
    x, y = random(100, 2, 9).requires_grad_(), random(100, 1, 4, seed=1).requires_grad_()
    parts = torch.cat([product(x[k : k + 1], y[k : k + 1]) for k in range(100)])
    assert_close(product(x, y), parts)
    for found, expected in zip(
        torch.autograd.grad(product(x, y).sin().sum(), (x, y)),
        torch.autograd.grad(parts.sin().sum(), (x, y)),
        strict=True,
    ):
        assert_close(found, expected)


def test_a_million_rows_are_multiplied():
    product, x = GauntProduct(1, 1, 1), random(1000, 4, dtype=torch.float32)
    out = product(x.expand(1000, 1000, 4), x)
    assert_close(out[999], product(x, x))


@pytest.mark.parametrize("mix", [(2, 3), (4, 2, 3)])
def test_channels_are_mixed_by_one_matrix_or_one_a_degree(mix):
    x, y, weight = random(5, 2, 16), random(5, 2, 9, seed=1), random(*mix, seed=2)
    product = GauntProduct(3, 2, 3).double()
    each = weight.expand(4, 2, 3)[[0, *[1] * 3, *[2] * 5, *[3] * 7]]
    assert_close(product(x, y, mix=weight), torch.einsum("ncm,mcd->ndm", product(x, y), each))
    assert_close(product(x[0], y[0], mix=weight), product(x, y, mix=weight)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_and_a_trip_through_float32_leave_no_trace(backend):
    product, x, y = GauntProduct(2, 2, 2, backend=backend).double(), random(3, 9), random(3, 9, seed=1)
    assert torch.equal(copy.deepcopy(product).float().double()(x, y), product(x, y))
    assert not product.state_dict()


def test_what_makes_no_sense_is_refused_by_name():
    with pytest.raises(SettingError, match="backend is 'fft'; allowed: quadrature, dense, fourier"):
        GauntProduct(1, 1, 1, backend="fft")
    with pytest.raises(SettingError, match="degree is 2; allowed: none with backend dense"):
        GauntProduct(1, 1, 1, degree=2, backend="dense")
