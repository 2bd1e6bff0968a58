"""Two forms of the edge convolution, and e3nn's: python benchmarks/edge_convolution.py [--device cuda]

`grid` and `rotated` are the same map, checked here to 1e-4 before anything is timed. `e3nn` is what NequIP and MACE do:
gather, a TensorProduct of kind uvu with a weight for every edge, channel and path, all of natural parity up to the same
degree, and the sum at the receivers, paths kept apart as there. It is another map, with more weights and outputs.
float32, one thread, 20 edges an atom; milliseconds a call, the best of those that fit into the time of one figure.
"""

import statistics
import time
import warnings
from collections.abc import Callable

import torch
from measuring import Goal, Report, in_turn, options_of, write
from torch import Tensor

from equimodels.ops import EdgeConvolution, spherical_harmonics
from equimodels.ops.edge_convolution import form_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from e3nn import o3

EDGES = (1, 10, 100, 1_000, 10_000, 100_000)
DEGREES = (1, 2, 3, 4, 5, 6)
CHANNELS, FEWER = (64, 4), (16, 1)  # of up to MANY edges, and of more
MANY = 10_000
LARGEST = 1 << 28  # numbers of messages, 1 GB: what is larger is not timed
SECONDS = 0.1  # of calls, for one figure
Case = Callable[[], Tensor]


class Peer(torch.nn.Module):
    """e3nn's convolution: gather, TensorProduct, sum."""

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        irreps = [o3.Irrep(degree, (-1) ** degree) for degree in range(lmax + 1)]
        paths = [(a, b, out) for a in irreps for b in irreps for out in irreps if out in a * b and out.l <= a.l + b.l]
        self.product = o3.TensorProduct(
            [(channels, irrep) for irrep in irreps],
            [(1, irrep) for irrep in irreps],
            [(channels, out) for _, _, out in paths],
            [(a.l, b.l, place, "uvu", True) for place, (a, b, _) in enumerate(paths)],
            shared_weights=False,
            internal_weights=False,
        )
        self.width, self.weights = self.product.irreps_out.dim, self.product.weight_numel

    def forward(self, x: Tensor, weights: Tensor, harmonics: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        messages = self.product(x.index_select(0, sender), harmonics, weights)
        return messages.new_zeros(len(x), self.width).index_add(0, receiver, messages)


def cases(lmax: int, edges: int, channels: int, device: str) -> dict[str, tuple[Case, list[Tensor]]]:
    """What is called, and what its gradients are taken by, for each form and the peer where it fits."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device).requires_grad_()

    atoms = max(2, edges // 20)
    sender, receiver = torch.randint(0, atoms, (2, edges), generator=generator).to(device)
    receiver = receiver.sort().values
    harmonics = spherical_harmonics(lmax, random(edges, 3)).detach().requires_grad_()
    x, radial = random(atoms, channels, (lmax + 1) ** 2), random(edges, channels, lmax + 1)
    found: dict[str, tuple[Case, list[Tensor]]] = {}
    for form in ("grid", "rotated"):
        module = EdgeConvolution(lmax, lmax, lmax, form=form).to(device)
        given = [x, radial, harmonics]
        found[form] = (lambda module=module, given=given: module(*given, sender, receiver)), given
    with torch.no_grad():
        grid, rotated = found["grid"][0](), found["rotated"][0]()
        error = float((grid - rotated).abs().max() / grid.abs().max())
    if error > 1e-4:
        raise RuntimeError(f"the forms differ by {error:.1e} at degree {lmax} with {edges} edges")
    peer = Peer(lmax, channels).to(device)
    if edges * max(peer.width, peer.weights) <= LARGEST:
        theirs = [random(atoms, channels * (lmax + 1) ** 2), random(edges, peer.weights), harmonics]
        found["e3nn"] = (lambda: peer(*theirs, sender, receiver)), theirs
    return found


def timed(call: Case, by: list[Tensor], backward: bool, device: str) -> float:
    """Milliseconds of a call."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        if backward:
            torch.autograd.grad(call().sum(), by)
        else:
            with torch.no_grad():
                call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__, ("--device", {"default": "cpu", "choices": ("cpu", "cuda")}))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # e3nn compiles with TorchScript, which torch has deprecated
    report = Report(
        "edge_convolution",
        "The edge convolution: two forms, and e3nn's",
        {"dtype": "float32", "threads": 1, "edges an atom": 20, "device": options.device},
    )
    slowest = 0.0
    for lmax in (1, 3) if options.quick else DEGREES:
        for edges in (1, 100, MANY) if options.quick else EDGES:
            for channels in FEWER[:1] if options.quick else FEWER if edges > MANY else CHANNELS:
                calls = cases(lmax, edges, channels, options.device)
                for backward in (False, True):
                    figures = in_turn(
                        {
                            name: lambda call=call, by=by, backward=backward: timed(call, by, backward, options.device)
                            for name, (call, by) in calls.items()
                        },
                        options,
                        warm=3 if edges <= 100 else 1,  # e3nn compiles on its first calls
                    )
                    median = {name: statistics.median(found) for name, found in figures.items()}
                    chosen = form_for(lmax, lmax, lmax, edges, channels)
                    slowest = max(slowest, median[chosen] / min(median["grid"], median["rotated"]))
                    table = "forward and backward, milliseconds" if backward else "forward, milliseconds"
                    report.tables.setdefault(table, []).append(
                        {
                            "degree": lmax,
                            "edges": edges,
                            "channels": channels,
                            **{name: round(median[name], 3) if name in median else "-" for name in (*calls, "e3nn")},
                            "rotated / grid": round(median["rotated"] / median["grid"], 2),
                            "e3nn / auto": round(median["e3nn"] / median[chosen], 2) if "e3nn" in median else "-",
                            "auto": chosen,
                        }
                    )
    report.goals.append(Goal("the form that auto takes / the faster one, at worst", slowest, 1.2, less=True))
    report.notes.append(f"e3nn is left out where its messages or weights are more than {LARGEST:,} numbers.")
    write(report, options)


if __name__ == "__main__":
    main()
