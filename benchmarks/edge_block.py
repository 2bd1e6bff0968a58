"""The edge block against MACE's: python benchmarks/edge_block.py

Messages along edges: a linear map, a network of the edge's length, the product of the sender's features with a filter
on the edge, the sum at the receiver, a linear map, and a linear map of the features that are kept beside. Features of
degrees 0e+1o, filters and messages of degrees 0 to 3, as in the later layers of either potential. MACE's is the block
its training command takes by default, which weighs every path of an edge, and what is kept by species; ours weighs
every degree of the filter. The radial basis belongs to both, harmonics to neither. MACE runs in an environment of its
own (`make bench-peers`), in turn with ours. float32, one thread; milliseconds a call; backward to features, lengths,
harmonics and what is learned.
"""

import contextlib
from collections.abc import Callable

import torch
from measuring import Goal, Report, in_turn, options_of, ratio, spread, write
from peers.inputs import CUTOFF, Edges
from peers.session import peer_of
from peers.stopwatch import timed
from torch import Tensor, nn

from equimodels.embeddings.bessel import Bessel, BesselConfig
from equimodels.models.degree_linear import DegreeLinear
from equimodels.models.radial_network import RadialNetwork
from equimodels.ops import GauntConvolution, spherical_harmonics

LMAX_IN, LMAX = 1, 3
HIDDEN = 64  # width of the network of the length, as MACE's
SECONDS = 0.5  # of calls, for one figure
WANTED = 4.0  # MACE's time / ours
PEER = "MACE"


class EdgeBlock(nn.Module):
    """Messages (N, C, 16) and what is kept (N, C, 4), side by side, as in a layer of `GauntPotential`."""

    def __init__(self, atoms: int, edges: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.radial = RadialNetwork(Bessel(BesselConfig(), cutoff=CUTOFF), CUTOFF, HIDDEN, channels * (LMAX + 1))
        self.send = DegreeLinear(LMAX_IN, channels, channels)
        self.convolve = GauntConvolution(LMAX_IN, LMAX, LMAX)
        self.receive = DegreeLinear(LMAX, channels, channels)
        self.keep = DegreeLinear(LMAX_IN, channels, channels)
        self.norm = (atoms / edges) ** 0.5
        self.given = Edges.between(atoms, edges)
        self.inputs = [
            torch.randn(atoms, channels, (LMAX_IN + 1) ** 2, requires_grad=True),
            self.given.vectors.norm(dim=1).requires_grad_(),
            spherical_harmonics(LMAX, self.given.vectors).requires_grad_(),
        ]

    def forward(self, features: Tensor, lengths: Tensor, harmonics: Tensor) -> Tensor:
        """features: (N, C, 4); lengths: (E,), angstrom; harmonics: (E, 16). Returns (N, 20 C)."""
        radial = (self.radial(lengths) * self.norm).view(-1, self.channels, LMAX + 1)
        given = self.given
        messages = self.receive(self.convolve(self.send(features), radial, harmonics, given.sender, given.receiver))
        return torch.cat([messages.flatten(1), self.keep(features).flatten(1)], 1)


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"atoms": 500, "edges": 10_000, "channels": 64}
    if options.quick:
        sizes = {"atoms": 50, "edges": 1_000, "channels": 16}
    ours = EdgeBlock(**sizes)
    with contextlib.ExitStack() as stack:
        peer = peer_of("mace", "mace_blocks.py")
        versions = stack.enter_context(peer).versions if peer else {}
        report = Report(
            "edge_block",
            "Messages along edges",
            {**sizes, "degrees": "0e+1o to 0 to 3", "dtype": "float32", "threads": 1, **versions},
        )
        report.notes += [] if peer else [f"{PEER} was left out: no environment"]
        for name in ("forward", "forward and backward"):
            how = {"backward": name != "forward", "seconds": SECONDS}
            cases: dict[str, Callable[[], float]] = {
                "ours": lambda how=how: timed(ours, ours.inputs, list(ours.parameters()), **how),
            }
            if peer:
                cases[PEER] = lambda how=how, peer=peer: peer.ask("edge_block", **sizes, **how)
            figures = in_turn(cases, options)
            report.tables[f"{name}, ms"] = spread(figures, "ours", digits=2)
            if peer:
                report.goals.append(Goal(f"{PEER} / ours, {name}", ratio(figures, PEER, "ours"), WANTED))
    write(report, options)


if __name__ == "__main__":
    main()
