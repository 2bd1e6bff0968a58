"""Frame averaging makes any network equivariant, except where its frames are not determined, which it says."""

import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.symmetry import (
    DegenerateFrameError,
    Euclidean,
    FrameAveraging,
    Harmonic,
    Invariant,
    Orthogonal,
    Point,
    Product,
    Pseudo,
    Vector,
    equivariance_error,
    principal_frame,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
RIGID = Euclidean(Orthogonal(reflections=False))
POINTS = 6


def points(batch=3, seed=0, dtype=torch.float64):
    """Clouds of generic shape, clearly not degenerate."""
    x = torch.randn(batch, POINTS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x * torch.tensor([1.0, 2.0, 3.0])).to(dtype)


class Network(nn.Module):
    """A network without any symmetry: all coordinates side by side."""

    def __init__(self, outputs, each=False, inputs=3 * POINTS):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(inputs, 32), nn.SiLU(), nn.Linear(32, outputs * (POINTS if each else 1)), nn.Tanh()
        )
        self.each = each
        self.seen = 0

    def forward(self, *inputs, mask=None):
        self.seen = len(inputs[0])
        flat = torch.cat([x.flatten(1) for x in inputs], dim=1)
        found = self.layers(flat)
        return found.unflatten(1, (POINTS, -1)) if self.each else found


OUTPUTS = [
    (Invariant(4), 4, False),
    (Vector(), 3, False),
    (Vector(), 3, True),
    (Point(), 3, True),
    (Pseudo(Vector()), 3, False),
    (Harmonic(2), 9, False),
    (Product((Vector(), Vector())), 9, False),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("group", "frames"), [(Euclidean(), 8), (RIGID, 4)], ids=["E(3)", "SE(3)"])
@pytest.mark.parametrize(("rep_out", "width", "each"), OUTPUTS, ids=lambda value: str(value))
def test_a_network_averaged_over_frames_is_equivariant_and_alone_it_is_not(dtype, group, frames, rep_out, width, each):
    x, backbone = points(dtype=dtype), Network(width, each).to(dtype)
    averaged = FrameAveraging(backbone, rep_out, reflections=frames == 8)
    assert equivariance_error(averaged, [x], [Point()], rep_out, group=group) < TOLERANCE[dtype]
    assert backbone.seen == frames * len(x)
    assert equivariance_error(backbone, [x], [Point()], rep_out, group=group) > 0.01


def test_four_frames_do_not_give_reflections():
    averaged = FrameAveraging(Network(1).double(), Invariant(), reflections=False)
    assert equivariance_error(averaged, [points()], [Point()], Invariant()) > 0.01


def test_more_inputs_and_outputs_have_representations_of_their_own():
    class Two(Network):
        def forward(self, *inputs):
            found = super().forward(*inputs)
            return found[:, :1], found[:, 1:]

    velocity, charge = points(seed=1), torch.rand(3, POINTS, 1, dtype=torch.float64)
    reps = [Point(), Vector(), Invariant()]
    averaged = FrameAveraging(Two(4, inputs=7 * POINTS).double(), [Invariant(), Vector()], rep_in=reps)
    error = equivariance_error(
        averaged, [points(), velocity, charge], reps, [Invariant(), Vector()], group=Euclidean(), samples=4
    )
    assert error < 1e-10


def test_what_is_equivariant_already_stays_as_it_is():
    class Centre(nn.Module):
        def forward(self, x):
            return 2 * x - x.mean(dim=1, keepdim=True)

    x = points()
    assert_close(FrameAveraging(Centre(), Point())(x), Centre()(x), rtol=0, atol=1e-12)


def test_padding_changes_nothing():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.each = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3)).double()

        def forward(self, x, mask):
            return (self.each(x) * mask[..., None]).sum(dim=1)

    x, averaged = points(), FrameAveraging(Pooled(), Vector())
    mask = torch.ones(3, POINTS, dtype=torch.bool)
    padded = torch.cat([x, torch.full((3, 2, 3), 50.0)], dim=1)
    longer = torch.cat([mask, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    assert_close(averaged(padded, mask=longer), averaged(x, mask=mask), rtol=0, atol=1e-14)


LINE = torch.arange(POINTS)[:, None] * torch.tensor([1.0, 2.0, 3.0])
OCTAHEDRON = torch.cat([torch.eye(3), -torch.eye(3)])
PRISM = torch.tensor(
    [[x * c, x * s, z] for z in (-2, 2) for x, c, s in ((1, 1, 0), (1, -0.5, 0.75**0.5), (1, -0.5, -(0.75**0.5)))]
)
SYMMETRIC = {"line": LINE, "octahedron": OCTAHEDRON, "prism": PRISM, "one spot": torch.ones(POINTS, 3)}


@pytest.mark.parametrize("shape", SYMMETRIC)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_degenerate_cloud_is_reported_and_by_number(shape, dtype):
    x = points(dtype=dtype)
    x[1] = SYMMETRIC[shape].to(dtype)
    assert principal_frame(x).degenerate.tolist() == [False, True, False]
    with pytest.raises(DegenerateFrameError, match=r"clouds \(1,\)") as caught:
        FrameAveraging(Network(1).to(dtype), Invariant())(x)
    assert pickle.loads(pickle.dumps(caught.value)).clouds == (1,)
    with pytest.warns(UserWarning, match=r"clouds \(1,\)"):
        FrameAveraging(Network(1).to(dtype), Invariant(), on_degenerate="warn")(x)


def test_what_is_reported_is_really_not_equivariant():
    x = SYMMETRIC["octahedron"].double()[None]
    unheeding = FrameAveraging(Network(1).double(), Invariant(), on_degenerate="ignore")
    assert equivariance_error(unheeding, [x], [Point()], Invariant()) > 0.01


def test_a_flat_cloud_has_frames():
    x = points()
    x[..., 0] = 0
    averaged = FrameAveraging(Network(3).double(), Vector())
    assert equivariance_error(averaged, [x], [Point()], Vector(), group=Euclidean()) < 1e-10


@pytest.mark.parametrize("reflections", [True, False])
def test_averaging_can_be_differentiated_twice(reflections):
    averaged = FrameAveraging(Network(3).double(), Vector(), reflections=reflections)
    x = points(1).requires_grad_()
    assert torch.autograd.gradcheck(averaged, x)
    assert torch.autograd.gradgradcheck(averaged, x)


@pytest.mark.parametrize("shape", SYMMETRIC)
def test_gradients_at_a_degenerate_cloud_are_finite(shape):
    x = SYMMETRIC[shape].double()[None].clone().requires_grad_()
    found = FrameAveraging(Network(3).double(), Vector(), on_degenerate="ignore")(x)
    (gradient,) = torch.autograd.grad(found.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert gradient.isfinite().all()
    assert second.isfinite().all()


def test_an_empty_batch_gives_an_empty_batch():
    assert FrameAveraging(Network(3), Vector())(torch.empty(0, POINTS, 3)).shape == (0, 3)


def test_what_does_not_pair_up_is_refused():
    with pytest.raises(SettingError, match="rep_in"):
        FrameAveraging(Network(1), Invariant(), rep_in=[Vector()])
    with pytest.raises(SettingError, match="rep_in"):
        FrameAveraging(Network(1).double(), Invariant())(points(), points())
    with pytest.raises(SettingError, match="rep_out"):
        FrameAveraging(Network(1).double(), [Invariant(), Vector()])(points())
    with pytest.raises(SettingError, match="on_degenerate"):
        FrameAveraging(Network(1), Invariant(), on_degenerate="hide")
    with pytest.raises(SettingError, match="points"):
        principal_frame(torch.zeros(4, 3))
