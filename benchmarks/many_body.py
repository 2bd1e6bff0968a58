"""The many-body block against MACE's and cuEquivariance's: python benchmarks/many_body.py

Products of an atom's messages with themselves, up to third order, then a linear map: what comes between the messages of
an atom and its new features. Messages have degrees 0 to 3. Ours gives all of these degrees, by one polynomial on the
sphere; the peers give 0e, or 0e+1o, by Clebsch-Gordan contractions with a weight for every path, and so are the more
expressive for each degree. Weights depend on the species in each. Peers run in environments of their own (`make
bench-peers`), in turn with ours. float32, one thread; milliseconds a call; backward to messages and what is learned.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from measuring import Goal, Report, in_turn, options_of, ratio, spread, write
from peers.inputs import SPECIES, species_of
from peers.session import Peer, peer_of
from peers.stopwatch import timed
from torch import Tensor, nn

from equimodels.models.degree_linear import DegreeLinear
from equimodels.ops import GauntPower

LMAX, ORDER = 3, 3
SECONDS = 0.5  # of calls, for one figure
PEERS = {"MACE": ("mace", "mace_blocks.py"), "cuEquivariance": ("cuequivariance", "cuequivariance_blocks.py")}
WANTED = {"MACE, to 0e+1o": 20.0, "cuEquivariance, to 0e+1o": 5.0}  # their time / ours
OUTPUTS = {"0e": "{0}x0e", "0e+1o": "{0}x0e+{0}x1o"}


class ManyBody(nn.Module):
    """(N, C, 16) to (N, C, 16), as the end of a layer of `GauntPotential`; weights by species."""

    def __init__(self, atoms: int, channels: int) -> None:
        super().__init__()
        self.power = GauntPower(LMAX, LMAX, ORDER)
        self.weight = nn.Parameter(torch.randn(SPECIES, channels, ORDER))
        self.update = DegreeLinear(LMAX, channels, channels)
        self.inputs = [torch.randn(atoms, channels, (LMAX + 1) ** 2, requires_grad=True)]
        self.kinds = species_of(atoms)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, 16). Returns (N, C, 16)."""
        update: Tensor = self.update(self.power(x, self.weight.index_select(0, self.kinds)))
        return update


def cases_of(
    ours: ManyBody, peers: Mapping[str, Peer], outputs: Mapping[str, str], sizes: Mapping[str, int], how: dict[str, Any]
) -> dict[str, Callable[[], float]]:
    """What runs in turn, by name."""
    cases: dict[str, Callable[[], float]] = {
        "ours": lambda: timed(ours, ours.inputs, list(ours.parameters()), **how),
    }
    for name, peer in peers.items():
        for irreps, written in outputs.items():
            cases[f"{name}, to {irreps}"] = lambda peer=peer, written=written: peer.ask(
                "many_body", outputs=written, **sizes, **how
            )
    return cases


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"atoms": 50, "channels": 16} if options.quick else {"atoms": 500, "channels": 64}
    outputs = {"0e": OUTPUTS["0e"]} if options.quick else OUTPUTS  # cuEquivariance takes a minute to make the other
    ours = ManyBody(**sizes)
    with contextlib.ExitStack() as stack:
        found = {name: peer_of(*where) for name, where in PEERS.items()}
        peers = {name: stack.enter_context(peer) for name, peer in found.items() if peer}
        versions = {name: version for peer in peers.values() for name, version in peer.versions.items()}
        report = Report(
            "many_body",
            "Many-body products of third order",
            {**sizes, "degrees in": "0 to 3", "dtype": "float32", "threads": 1, **versions},
            notes=["ours gives degrees 0 to 3, the peers what is named"],
        )
        report.notes += [f"{name} was left out: no environment" for name in PEERS if name not in peers]
        for name in ("forward", "forward and backward"):
            how = {"backward": name != "forward", "seconds": SECONDS}
            figures = in_turn(cases_of(ours, peers, outputs, sizes, how), options)
            report.tables[f"{name}, ms"] = spread(figures, "ours", digits=2)
            for case, wanted in WANTED.items():
                if case in figures:
                    report.goals.append(Goal(f"{case} / ours, {name}", ratio(figures, case, "ours"), wanted))
    write(report, options)


if __name__ == "__main__":
    main()
