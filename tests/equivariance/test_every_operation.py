"""What holds for every operation: second derivatives, one graph, export, autocast, precisions, any number of rows."""

from importlib import import_module

import pytest
import torch
from every_operation import CASES, Case, inputs
from torch import Tensor
from torch.testing import assert_close

from equimodels.ops import block_wigner_D, wigner_D
from equimodels.testing.memory import PeakMemory

MANY = 1_000_000  # rows, or edges
BOUND = 100e6  # bytes beside results and gradients: 25 numbers of float32 a row of so many
BLOCKS = (
    ("edge_blocks", "BLOCK"),
    ("gaunt_convolution", "WHOLE"),
    ("rotated_convolution", "BLOCK"),
    ("row_blocks", "BLOCK"),
    ("spherical_harmonics", "BLOCK"),
    ("trilinear_blocks", "BLOCK"),
)
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_first_and_second_derivatives_are_those_of_differences(case: Case) -> None:
    module, given = case.make().double(), [tensor.requires_grad_() for tensor in inputs(case, 2)]

    def function(*tensors: Tensor) -> Tensor:
        if case.directions is None:
            return module(*tensors)
        unit = [torch.nn.functional.normalize(t, dim=-1) if i == case.directions else t for i, t in enumerate(tensors)]
        return module(*unit)

    assert torch.autograd.gradcheck(function, given)
    assert torch.autograd.gradgradcheck(function, given)


def test_it_is_one_graph_to_a_compiler(case: Case) -> None:
    module, given = case.make().double(), inputs(case, 6)
    torch.compiler.reset()
    assert_close(torch.compile(module, fullgraph=True, backend="aot_eager")(*given), module(*given))


def test_it_is_exported(case: Case) -> None:
    module, given = case.make().double(), tuple(inputs(case, 6))
    assert_close(torch.export.export(module, given).module()(*given), module(*given))


def test_autocast_is_near(case: Case) -> None:
    module, given = case.make(), inputs(case, 40, torch.float32)
    expected = module(*given)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(*given)
    assert found.isfinite().all()
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_gradients_under_autocast_are_near(case: Case) -> None:
    module, given = case.make(), [tensor.requires_grad_() for tensor in inputs(case, 40, torch.float32)]
    expected = torch.autograd.grad(module(*given).square().sum(), given)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(*given)
    for found, right in zip(torch.autograd.grad(out.float().square().sum(), given), expected, strict=True):
        assert found.dtype == torch.float32
        assert (found - right).abs().max() < 0.1 * right.abs().max()


def memory_beside(case: Case, rows: int) -> float:
    """Bytes at most at one time, forward and backward, beside the result and the gradients, for rows or edges."""
    channels = case.shapes[0][1] if case.by_rows and len(case.shapes[0]) == 3 else 1
    assert channels is not None
    given = [tensor.requires_grad_() for tensor in inputs(case, rows // channels, torch.float32)]
    with PeakMemory() as memory:
        out = case.make()(*given)
        gradients = torch.autograd.grad(out, given, out.detach())
    return memory.peak - sum(4 * tensor.numel() for tensor in (out, *gradients))


SLOW = "product, fourier", "rotated convolution", "edge convolution, rotated"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES]
)
def test_a_million_rows_need_bounded_memory_beside_operands_and_results(name: str) -> None:
    assert memory_beside(CASES[name], MANY) < BOUND


def test_without_blocks_memory_grows_beyond_that_bound(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, constant in BLOCKS:
        monkeypatch.setattr(import_module(f"equimodels.ops.{name}"), constant, 1 << 60)
    assert memory_beside(case, MANY // 100) > BOUND / 100


def test_no_rows_one_row_and_many(case: Case) -> None:
    module, many = case.make().double(), inputs(case, 7)
    whole = module(*many)
    for rows in (0, 1):
        given = [tensor[:rows] if shape[0] is None else tensor for tensor, shape in zip(many, case.shapes, strict=True)]
        found = module(*given)
        assert found.isfinite().all()
        assert found.shape == ((rows, *whole.shape[1:]) if case.by_rows else whole.shape)
        if case.by_rows:
            assert_close(found, whole[:rows])


def test_single_precision_is_that_of_double_rounded(case: Case) -> None:
    single, double = case.make(), case.make().double()
    given = inputs(case, 40, torch.float32)
    found, expected = single(*given), double(*(tensor.double() for tensor in given))
    assert found.dtype == torch.float32
    error = float((found - expected).abs().max() / expected.abs().max())
    assert 0 < error < 2e-6


def test_wigner_matrices_can_be_differentiated_compiled_and_of_none() -> None:
    rotation = torch.linalg.qr(torch.randn(2, 3, 3, dtype=torch.float64))[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda r: wigner_D(2, r), rotation)
    assert block_wigner_D(3, rotation[:0]).shape == (0, 16, 16)
    compiled = torch.compile(lambda r: block_wigner_D(3, r), fullgraph=True, backend="aot_eager")
    assert_close(compiled(rotation.detach()), block_wigner_D(3, rotation).detach())
