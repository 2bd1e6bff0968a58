"""On a GPU every operation and every potential gives what it gives on the CPU; products do so by their fused kernel."""

import pytest
import torch
from every_operation import CASES, Case, inputs
from facts_of_potentials import EMBEDDING, FACTS
from torch import Tensor, nn
from torch.testing import assert_close

from equimodels.models.attention_potential import AttentionPotential, AttentionPotentialConfig
from equimodels.models.gaunt_potential import GauntPotential, GauntPotentialConfig
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.invariant_potential import InvariantPotential, InvariantPotentialConfig
from equimodels.ops import CrossProduct, GauntProduct
from equimodels.ops.trilinear_blocks import kernels_of

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
POTENTIALS = {
    "gaunt": lambda: GauntPotential(GauntPotentialConfig(channels=4), embedding=EMBEDDING, facts=FACTS),
    "attention": lambda: AttentionPotential(
        AttentionPotentialConfig(channels=4, heads=2), embedding=EMBEDDING, facts=FACTS
    ),
    "invariant": lambda: InvariantPotential(InvariantPotentialConfig(channels=8), embedding=EMBEDDING, facts=FACTS),
}


def with_derivatives(module: nn.Module, given: list[Tensor]) -> list[Tensor]:
    """The value, the first derivatives of the sum of its sines (that of harmonics' squares is constant), the second."""
    given = [tensor.detach().requires_grad_() for tensor in given]
    value = module(*given)
    first = torch.autograd.grad(value.sin().sum(), given, create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), given)
    return [each.detach() for each in (value, *first, *second)]


def assert_near(found: list[Tensor], expected: list[Tensor], relative: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.device.type == DEVICE
        assert_close(one.double().cpu(), other.double(), rtol=0, atol=relative * float(other.abs().max()))


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_values_and_two_derivatives_are_those_of_the_cpu(case: Case, dtype: torch.dtype, relative: float) -> None:
    given = inputs(case, 50, dtype)
    expected = with_derivatives(case.make().double(), [tensor.double() for tensor in given])
    found = with_derivatives(case.make().to(DEVICE, dtype), [tensor.to(DEVICE) for tensor in given])
    assert_near(found, expected, relative)


@pytest.mark.parametrize("rows", [1, 45, 10_000])
@pytest.mark.parametrize("lmax", range(1, 7))
@pytest.mark.parametrize("product", [GauntProduct, CrossProduct])
def test_the_fused_kernel_is_right(product: type[nn.Module], lmax: int, rows: int) -> None:
    assert kernels_of(torch.device(DEVICE)) is not None
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(rows, (lmax + 1) ** 2, generator=generator) for _ in range(2)]
    expected = with_derivatives(product(lmax, lmax, lmax).double(), [tensor.double() for tensor in given])
    found = with_derivatives(product(lmax, lmax, lmax).to(DEVICE), [tensor.to(DEVICE) for tensor in given])
    assert_near(found, expected, 2e-5)


def test_a_million_rows_need_no_grid_in_memory() -> None:
    module, (x, y) = GauntProduct(4, 4, 4).to(DEVICE), torch.randn(2, 1_000_000, 25, device=DEVICE)
    module(x[:1000], y[:1000])  # tuned
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = module(x, y)
    assert torch.cuda.max_memory_allocated() - before < 1.1 * 4 * out.numel()


@pytest.mark.parametrize("name", POTENTIALS)
def test_energies_forces_and_their_gradients_are_those_of_the_cpu(name: str) -> None:
    generator, results = torch.Generator().manual_seed(0), []
    x = 1.3 * torch.rand(6, 3, generator=generator, dtype=torch.float64) + torch.arange(6)[:, None]
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        model = POTENTIALS[name]().double()
        with torch.no_grad():
            model.readout_last.normal_(generator=torch.Generator().manual_seed(1))
        structure = Structure.of([1, 6, 8, 1, 6, 8], x.numpy(), float(model.config.cutoff), torch.float64)
        graph, model = AtomGraph.collate([structure, structure]).to(device), model.to(device)
        energies, forces = model.train()(graph)
        loss = energies.square().sum() + forces.square().sum()
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, learned, allow_unused=True)
        results.append([energies, forces, *(gradient for gradient in gradients if gradient is not None)])
    assert_near(results[1], results[0], 1e-11)
