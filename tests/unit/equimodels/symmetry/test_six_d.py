"""The 6D map: rotations whatever goes in, every rotation reached, no jump, and better than what jumps."""

import math

import pytest
import torch
from torch.testing import assert_close

from equimodels.symmetry import random_rotations, rotation_from_6d, rotation_to_6d, undetermined

DEGENERATE = torch.tensor(
    [
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 2, 0],
        [1, 2, 3, 2, 4, 6],
        [1, 2, 3, -1, -2, -3],
        [1e-20, 0, 0, 3e-20, 0, 0],
    ],
    dtype=torch.float64,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_rotations(found, atol):
    eye = torch.eye(3, dtype=found.dtype).expand_as(found)
    assert_close(found.mT @ found, eye, rtol=0, atol=atol)
    assert_close(torch.linalg.det(found), torch.ones_like(found[..., 0, 0]), rtol=0, atol=atol)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e15])
def test_six_numbers_become_a_rotation(dtype, atol, scale):
    x = torch.randn(500, 6, dtype=dtype, generator=generator()) * scale
    assert not undetermined(x).any()
    assert_rotations(rotation_from_6d(x), atol)


def test_every_rotation_comes_back():
    rotation = random_rotations(500, generator())
    assert_close(rotation_from_6d(rotation_to_6d(rotation)), rotation, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_collinear_vectors_still_give_a_rotation_with_finite_derivatives_and_are_reported(dtype):
    x = DEGENERATE.to(dtype).requires_grad_()
    found = rotation_from_6d(x)
    assert_rotations(found, 1e-6)
    (gradient,) = torch.autograd.grad((found * torch.randn(3, 3, dtype=dtype, generator=generator())).sum(), x)
    assert gradient.isfinite().all()
    assert undetermined(x).all()


@pytest.mark.parametrize("sine", [1e-2, 1e-4, 1e-5])
def test_nearly_collinear_vectors_are_made_orthogonal_in_float32(sine):
    first = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator()), dim=1)
    off = torch.nn.functional.normalize(torch.linalg.cross(first, torch.randn(200, 3, generator=generator(1))), dim=1)
    assert_rotations(rotation_from_6d(torch.cat([first, 3 * (first + sine * off)], dim=1)), 1e-6)


def test_the_map_can_be_differentiated_twice():
    x = torch.randn(3, 6, dtype=torch.float64, generator=generator()).requires_grad_()
    assert torch.autograd.gradcheck(rotation_from_6d, x)
    assert torch.autograd.gradgradcheck(rotation_from_6d, x)


def test_a_rotation_of_the_frame_turns_the_result():
    x, turn = torch.randn(5, 6, dtype=torch.float64, generator=generator()), random_rotations(1, generator(1))[0]
    turned = (x.view(5, 2, 3) @ turn.mT).flatten(1)
    assert_close(rotation_from_6d(turned), turn @ rotation_from_6d(x), rtol=0, atol=1e-14)


def about_z(angle):
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternions(rotation):
    """(..., 4) with the usual choice w >= 0, by the eigenvector of Bar-Itzhack 2000."""
    m = rotation.mT
    xx, yy, zz = (m[..., i, i] for i in range(3))
    rows = [
        [xx - yy - zz, m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 1, 2] - m[..., 2, 1]],
        [m[..., 1, 0] + m[..., 0, 1], yy - xx - zz, m[..., 2, 1] + m[..., 1, 2], m[..., 2, 0] - m[..., 0, 2]],
        [m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2], zz - xx - yy, m[..., 0, 1] - m[..., 1, 0]],
        [m[..., 1, 2] - m[..., 2, 1], m[..., 2, 0] - m[..., 0, 2], m[..., 0, 1] - m[..., 1, 0], xx + yy + zz],
    ]
    vector = torch.linalg.eigh(torch.stack([torch.stack(row, -1) for row in rows], -2))[1][..., -1]
    return vector * torch.where(vector[..., 3:] < 0, -1.0, 1.0)


def euler(rotation):
    """(..., 3) angles, z-y-x."""
    return torch.stack(
        [
            torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0]),
            torch.asin((-rotation[..., 2, 0]).clamp(-1, 1)),
            torch.atan2(rotation[..., 2, 1], rotation[..., 2, 2]),
        ],
        dim=-1,
    )


def test_nothing_jumps_at_half_a_turn_where_angles_and_quaternions_do():
    angle = torch.deg2rad(torch.linspace(170, 190, 202, dtype=torch.float64))
    path = about_z(angle)
    step = float(angle[1] - angle[0])
    largest = {of: float(of(path).diff(dim=0).norm(dim=1).max()) for of in (rotation_to_6d, quaternions, euler)}
    assert largest[rotation_to_6d] < 2 * step
    assert largest[quaternions] > 1
    assert largest[euler] > math.pi


def learned_error(outputs, decode, steps=400):
    """Mean and maximal angle, in degrees, by which a small network errs that finds the rotation of a known shape."""
    torch.manual_seed(0)
    shape = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3]])
    network = torch.nn.Sequential(
        torch.nn.Linear(9, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, outputs)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(steps):
        rotation = random_rotations(128, generator(step)).float()
        loss = (decode(network((shape @ rotation.mT).flatten(1))) - rotation).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    rotation = random_rotations(2000, generator(10**6)).float()
    with torch.no_grad():
        found = decode(network((shape @ rotation.mT).flatten(1)))
    cosine = ((found * rotation).sum(dim=(1, 2)) - 1) / 2
    angle = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    return float(angle.mean()), float(angle.max())


def from_quaternion(x):
    x, y, z, w = torch.nn.functional.normalize(x, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def from_euler(x):
    roll = about_z(x[..., 2])[..., [2, 0, 1], :][..., [2, 0, 1]]  # about x
    pitch = about_z(x[..., 1])[..., [1, 2, 0], :][..., [1, 2, 0]]  # about y
    return about_z(x[..., 0]) @ pitch @ roll


def test_the_decoders_the_comparison_is_with_are_right():
    rotation = random_rotations(50, generator())
    assert_close(from_quaternion(quaternions(rotation)), rotation, rtol=0, atol=1e-12)
    assert_close(from_euler(euler(rotation)), rotation, rtol=0, atol=1e-12)


def test_a_network_finds_rotations_better_by_six_numbers_than_by_four_or_three():
    six = learned_error(6, rotation_from_6d)
    for other in (learned_error(4, from_quaternion), learned_error(3, from_euler)):
        assert six[0] < other[0]
        assert six[1] < other[1]
