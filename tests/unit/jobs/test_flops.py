"""Operations of a step are counted as they are executed, and counting changes no number."""

import pytest
import torch
from torch import Tensor, nn

from jobs.training.flops import FlopCount, peak_flops, peak_of


def layers(rows: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16, bias=False), nn.Tanh(), nn.Linear(16, 4, bias=False)), torch.randn(rows, 8)


def test_a_step_of_two_layers_has_the_operations_of_the_formula() -> None:
    model, x = layers(32)
    flops = FlopCount()
    with flops.counting():
        model(x).square().sum().backward()
    forward = 2 * 32 * (8 * 16 + 16 * 4)
    # The gradients of both weights, and that of the input of the second layer alone: the first one's has none.
    backward = 2 * 32 * (8 * 16 + 16 * 4) + 2 * 32 * 16 * 4
    assert flops.of(32) == forward + backward


def test_later_steps_are_estimated_by_what_they_hold() -> None:
    flops, told = FlopCount(steps=2), []
    for rows in (10, 20, 60):
        model, x = layers(rows)
        with flops.counting():
            model(x)
        told.append(flops.of(rows))
    assert told == [2 * rows * 192 for rows in (10, 20, 60)]


def test_nothing_is_known_where_nothing_can_be_seen() -> None:
    flops = FlopCount(on=False)
    with flops.counting():
        layers(4)[0](layers(4)[1])
    assert flops.of(4) == 0.0


def test_attention_on_a_cpu_counts_both_ways() -> None:
    query = torch.randn(2, 3, 16, 8, requires_grad=True)
    flops = FlopCount()
    with flops.counting():
        nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
    products = 2 * 2 * 3 * 16 * 16 * 8
    assert flops.of(1) == 2 * products + 5 * products  # forward: QK and PV; backward: the scores again and four more


def test_counting_changes_no_bit_of_a_double_backward() -> None:
    def gradients(flops: FlopCount) -> list[Tensor]:
        torch.manual_seed(0)
        model, x = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 1)), torch.randn(7, 3, requires_grad=True)
        with flops.counting():
            (forces,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
            forces.square().sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    counted, plain = gradients(FlopCount()), gradients(FlopCount(on=False))
    assert len(counted) == 3
    assert all(torch.equal(a, b) for a, b in zip(counted, plain, strict=True))


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H200", "bf16", 989.5e12),
        ("NVIDIA H100 80GB HBM3", "tf32", 494.7e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5e12),
        ("NVIDIA GeForce RTX 4090", "bf16", None),
    ],
)
def test_peaks_are_those_of_the_data_sheets(device: str, precision: str, peak: float | None) -> None:
    assert peak_flops(device, precision) == peak


def test_a_cpu_has_no_peak_to_be_compared_with() -> None:
    assert peak_of(torch.device("cpu"), bf16=True, tf32=False) is None
