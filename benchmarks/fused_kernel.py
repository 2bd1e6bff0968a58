"""The fused kernel against the limits of a GPU: python benchmarks/fused_kernel.py [--device cpu]

The pointwise product of functions on the sphere, float32, of as many rows as 10,000 edges of 64 channels, degrees 2 to
6 in and out. What bounds it is measured beside it: bytes a second of a large copy, multiplications of large matrices,
in TF32 on CUDA. The floor of a product is the longer of two times: to read its operands and write its result once, 3 n
R numbers, and to do its 6 n P R multiplications and additions (R rows, n coefficients, P grid points). On CUDA calls
are recorded and replayed, so that Python is not measured; one case is called from Python.

Torch and its Triton are enough. e3nn and cuEquivariance are measured too where they are installed.
"""

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median as middle

import torch
from measuring import Goal, Report, in_turn, options_of, ratio, spread, write
from peers.stopwatch import median
from torch import Tensor
from torch.testing import assert_close
from torchrun import ranks_on

from equimodels.ops import GauntProduct, gaunt_coefficients
from equimodels.ops.gaunt_grid import pointwise
from equimodels.ops.trilinear_blocks import kernels_of

EDGES, CHANNELS = 10_000, 64
DEGREES = (2, 3, 4, 5, 6)
SECONDS, CALLS = 0.3, 20  # of one figure; of one recording
OURS, EAGER, UNFUSED = "ours", "ours, called from Python", "three matrix products"
PEERS = ("cuEquivariance", "e3nn, the same map")
WANTED = {"share": 0.5, "cuEquivariance": 1.5}
Product = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Limit:
    """A call that does nothing but `amount` of one thing: bytes moved, or multiplications and additions."""

    call: Callable[[], object]
    amount: float


def limits(device: str) -> dict[str, Limit]:
    """What no product on this device can pass."""
    numbers, size = (2**28, 8192) if device == "cuda" else (2**24, 1024)
    source, matrix = torch.randn(numbers, device=device), torch.randn(size, size, device=device)
    target, result = torch.empty_like(source), torch.empty_like(matrix)
    return {
        "bytes": Limit(lambda: target.copy_(source), 2 * 4 * numbers),
        "operations": Limit(lambda: torch.mm(matrix, matrix, out=result), 2 * size**3),
    }


def timed(call: Callable[[], object], device: str, *, recorded: bool = True) -> float:
    """Microseconds of a call."""
    if device == "cpu":
        return 1e3 * median(call, SECONDS)

    def calls() -> None:
        for _ in range(CALLS):
            call()

    calls()  # what is tuned or compiled on a first call is not recorded
    repeat: Callable[[], object] = calls
    if recorded:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            calls()
        repeat = graph.replay

    def finished() -> None:
        repeat()
        torch.cuda.synchronize()

    return 1e3 * median(finished, SECONDS) / CALLS


def cuequivariance(lmax: int, device: str) -> Product:
    """The same product by cuEquivariance, of operands (edges, n channels); by its CUDA kernel where there is a GPU."""
    import cuequivariance as cue
    import cuequivariance_torch as cuet

    table = gaunt_coefficients(lmax, lmax, lmax)
    product = cue.SegmentedTensorProduct.from_subscripts("u,u,u")
    for operand, size in enumerate(table.shape):
        product.add_segments(operand, size * [(CHANNELS,)])
    for place in table.nonzero().tolist():
        product.add_path(*place, c=float(table[tuple(place)]))
    polynomial = cue.SegmentedPolynomial.eval_last_operand(product)
    method = "uniform_1d" if device == "cuda" else "naive"
    module = cuet.SegmentedPolynomial(polynomial, method=method).to(device)
    return lambda x, y: module([x, y])[0]


def e3nn(lmax: int, device: str) -> Product:
    """The same product by e3nn."""
    from operations import same_map

    module: Product = same_map(lmax).to(device)
    return module


def products(lmax: int, edges: int, device: str) -> dict[str, Callable[[], Tensor]]:
    """Each of them, with operands where it wants them; those that are installed. All give the same."""
    generator, n = torch.Generator().manual_seed(0), (lmax + 1) ** 2
    x, y = (torch.randn(edges, CHANNELS, n, generator=generator).to(device) for _ in range(2))
    module, form = GauntProduct(lmax, lmax, lmax).to(device), pointwise(lmax, lmax, lmax, 3 * lmax).to(device)
    calls = {OURS: lambda: module(x, y), EAGER: lambda: module(x, y), UNFUSED: lambda: form.plain(x, y)}
    with contextlib.suppress(ImportError):
        theirs = cuequivariance(lmax, device)
        last = [tensor.mT.reshape(edges, n * CHANNELS) for tensor in (x, y)]
        calls[PEERS[0]] = lambda: theirs(*last).view(edges, n, CHANNELS).mT
    with contextlib.suppress(ImportError):
        same, rows = e3nn(lmax, device), [tensor.view(edges * CHANNELS, n) for tensor in (x, y)]
        calls[PEERS[1]] = lambda: same(*rows).view(edges, CHANNELS, n)
    expected = form.double().plain(x.double(), y.double())
    form.float()
    for call in calls.values():
        assert_close(call().double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    return calls


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__, ("--device", {"default": "cuda", "choices": ("cpu", "cuda")}))
    device = options.device
    ranks_on(device)  # ends the program where there is no such device
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # e3nn compiles with TorchScript, which torch has deprecated
    edges, degrees = (EDGES // 100, DEGREES[:2]) if options.quick else (EDGES, DEGREES)
    fused = kernels_of(torch.device(device)) is not None
    report = Report(
        "fused_kernel",
        "The product on the sphere against the limits of the device",
        {
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu, one thread",
            "rows": edges * CHANNELS,
            "dtype": "float32",
            "fused": fused,
        },
    )
    bounds = limits(device)
    torch.backends.cuda.matmul.allow_tf32 = True
    figures = in_turn({name: partial(timed, bound.call, device) for name, bound in bounds.items()}, options)
    torch.backends.cuda.matmul.allow_tf32 = False
    rate = {name: bound.amount / (1e-6 * middle(figures[name])) for name, bound in bounds.items()}
    report.tables["What bounds it, a second"] = [{name: f"{found:.3g}" for name, found in rate.items()}]
    with torch.no_grad():
        for lmax in degrees:
            calls = products(lmax, edges, device)
            found = in_turn(
                {name: partial(timed, call, device, recorded=name != EAGER) for name, call in calls.items()}, options
            )
            n, rows = (lmax + 1) ** 2, edges * CHANNELS
            points = pointwise(lmax, lmax, lmax, 3 * lmax, fold=False).x.points
            floor = 1e6 * max(3 * n * rows * 4 / rate["bytes"], 6 * n * points * rows / rate["operations"])
            table = report.tables.setdefault("Forward, microseconds", [])
            table += [
                {"degree": lmax, **row, "floor": round(floor), "share of the floor": round(floor / row["median"], 3)}
                for row in spread(found, OURS)
            ]
            if device == "cpu":  # the goals are those of a GPU
                continue
            share = floor / middle(found[OURS])
            report.goals.append(Goal(f"floor / ours, degree {lmax}", share, WANTED["share"]))
            if PEERS[0] in found:
                times = ratio(found, PEERS[0], OURS)
                report.goals.append(Goal(f"cuEquivariance / ours, degree {lmax}", times, WANTED["cuEquivariance"]))
    report.notes += [f"{peer} was left out: not installed" for peer in PEERS if peer not in calls]
    write(report, options)


if __name__ == "__main__":
    main()
