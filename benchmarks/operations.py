"""Products of functions on the sphere against e3nn: python benchmarks/operations.py [--device cuda]

Two peers, since either alone would mislead. `FullTensorProduct` is e3nn's: every path, kept apart, many more numbers
than ours. `the same map` is e3nn's TensorProduct with our paths, summed at each degree with Gaunt weights: the same
bilinear map, checked here to 1e-4 before anything is timed. One channel a row, float32, one thread, outputs of degree
0 to L; microseconds a row, the best of several calls in each round.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from measuring import Goal, Report, in_turn, options_of, ratio, spread, write
from torch import Tensor

from equimodels.ops import CrossProduct, GauntProduct, gaunt_coefficients

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from e3nn import o3

ROWS, MANY = 1_000, 32_000
SECONDS = 0.15  # of calls, for one figure
FULL = {2: 6.0, 4: 20.0, 8: 40.0}  # e3nn's FullTensorProduct / ours, forward: the goals by degree
Pair = tuple[Tensor, Tensor]


def same_map(lmax: int) -> Any:
    """e3nn's TensorProduct that is the same map as `GauntProduct(lmax, lmax, lmax)`.

    It takes the roots of weights, so the sign of a path goes with the sign of its second weight.
    """
    table, block = gaunt_coefficients(lmax, lmax, lmax), [slice(d * d, (d + 1) ** 2) for d in range(lmax + 1)]
    irreps, instructions, weights = o3.Irreps.spherical_harmonics(lmax, p=1), [], []
    for a in range(lmax + 1):
        for b in range(lmax + 1):
            for c in range(abs(a - b), min(a + b, lmax) + 1, 2):
                symbol = o3.wigner_3j(a, b, c, dtype=torch.float64)
                weights.append(float((symbol * table[block[a], block[b], block[c]]).sum()))
                instructions.append((a, b, c, "uuu", True, 1.0))
    module = o3.TensorProduct(
        irreps,
        irreps,
        irreps,
        instructions,
        irrep_normalization="none",
        path_normalization="none",
        internal_weights=True,
    )
    with torch.no_grad():
        module.weight.copy_(torch.tensor(weights))
    return module.requires_grad_(False)


def operands(lmax: int, rows: int, device: str) -> Pair:
    """Rows of both operands, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(rows, (lmax + 1) ** 2, generator=generator).to(device).requires_grad_() for _ in range(2))
    return x, y


def forward(function: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
    """Without gradients."""
    with torch.no_grad():
        function(x, y)


def both(function: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
    """Forward and backward."""
    torch.autograd.grad(function(x, y).sum(), (x, y))


def timed(call: Callable[[], None], rows: int, device: str) -> float:
    """Microseconds a row: the best of the calls that fit into the time of one figure."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 1e6 * best / rows


def against_e3nn(lmax: int, options: Any) -> dict[str, dict[str, list[float]]]:
    """Figures of one degree, forward and both."""
    irreps, device = o3.Irreps.spherical_harmonics(lmax, p=1), options.device
    modules = {
        "ours": GauntProduct(lmax, lmax, lmax).to(device),
        "FullTensorProduct": o3.FullTensorProduct(irreps, irreps).to(device),
        "the same map": same_map(lmax).to(device),
    }
    x, y = operands(lmax, ROWS, device)
    with torch.no_grad():
        ours, theirs = modules["ours"](x, y), modules["the same map"](x, y)
        error = float((ours - theirs).abs().max() / ours.abs().max())
    if error > 1e-4:
        raise RuntimeError(f"the two are not the same map at degree {lmax}: {error:.1e}")
    found = {}
    for name, what in (("forward", forward), ("forward and backward", both)):
        cases = {
            which: lambda what=what, module=module: timed(lambda: what(module, x, y), ROWS, device)
            for which, module in modules.items()
        }
        found[name] = in_turn(cases, options, warm=3)  # e3nn compiles on its first calls
    return found


def ours_against_ours(options: Any) -> dict[str, dict[str, list[float]]]:
    """Many rows against few at degree 6; the antisymmetric product against the symmetric one."""
    device, found = options.device, {}
    six = GauntProduct(6, 6, 6).to(device)
    rows = {f"{count:,} rows": (count, operands(6, count, device)) for count in (ROWS, MANY)}
    cases: dict[str, Callable[[], float]] = {
        name: lambda pair=pair, count=count: timed(lambda: forward(six, *pair), count, device)
        for name, (count, pair) in rows.items()
    }
    found["degree 6, forward"] = in_turn(cases, options)
    for lmax in (2, 4, 6):
        pair = operands(lmax, ROWS, device)
        modules = [product(lmax, lmax, lmax).to(device) for product in (GauntProduct, CrossProduct)]
        cases = {
            type(module).__name__: lambda module=module, pair=pair: timed(lambda: forward(module, *pair), ROWS, device)
            for module in modules
        }
        found[f"degree {lmax}, forward"] = in_turn(cases, options) | found.get(f"degree {lmax}, forward", {})
    return found


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__, ("--device", {"default": "cpu", "choices": ("cpu", "cuda")}))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # e3nn compiles with TorchScript, which torch has deprecated
    report = Report(
        "operations",
        "Products of functions on the sphere",
        {"rows": ROWS, "channels": 1, "dtype": "float32", "threads": 1, "device": options.device},
    )
    for lmax in (1, 2) if options.quick else range(1, 9):
        for name, figures in against_e3nn(lmax, options).items():
            table = report.tables.setdefault(f"e3nn, {name}, microseconds a row", [])
            table += [{"degree": lmax, **row} for row in spread(figures, "ours", digits=3)]
            full, same = (ratio(figures, peer, "ours") for peer in ("FullTensorProduct", "the same map"))
            if name == "forward" and lmax in FULL:
                report.goals.append(Goal(f"FullTensorProduct / ours, degree {lmax}, forward", full, FULL[lmax]))
            if name != "forward" and lmax >= 3:
                report.goals.append(Goal(f"the same map / ours, degree {lmax}, forward and backward", same, 8.0))
    figures = ours_against_ours(options)
    few, many = f"{ROWS:,} rows", f"{MANY:,} rows"
    for name, found in figures.items():
        report.tables[f"Ours, {name}, microseconds a row"] = spread(found, next(iter(found)), digits=3)
        if "CrossProduct" in found:
            times = ratio(found, "CrossProduct", "GauntProduct")
            report.goals.append(Goal(f"CrossProduct / GauntProduct, {name}", times, 3.0, less=True))
        if many in found:
            report.goals.append(Goal("rows a second of 32,000 rows / of 1,000, degree 6", ratio(found, few, many), 0.8))
    write(report, options)


if __name__ == "__main__":
    main()
