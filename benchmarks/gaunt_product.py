"""The Gaunt product against e3nn, side by side in one run: python benchmarks/gaunt_product.py [--quick]

Two peers, since either alone would mislead. `e3nn_full` is e3nn's FullTensorProduct: every path, kept apart, many more
numbers than ours. `e3nn_same_map` is e3nn's TensorProduct with our paths, summed at each degree with Gaunt weights: the
same bilinear map, checked here to 1e-4 before anything is timed. Each time is the best of several interleaved rounds,
one thread, float32, one channel a row. Writes benchmarks/results/gaunt_product.json.
"""

import argparse
import json
import platform
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equimodels.ops import GauntProduct, gaunt_coefficients

RESULTS = Path(__file__).parent / "results" / "gaunt_product.json"

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from e3nn import o3


def same_map(lmax: int) -> Any:
    """e3nn's TensorProduct that is the same map as `GauntProduct(lmax, lmax, lmax)`."""
    table, block = gaunt_coefficients(lmax, lmax, lmax), [slice(d * d, (d + 1) ** 2) for d in range(lmax + 1)]
    irreps, instructions = o3.Irreps.spherical_harmonics(lmax, p=1), []
    for a in range(lmax + 1):
        for b in range(lmax + 1):
            for c in range(abs(a - b), min(a + b, lmax) + 1, 2):
                symbol = o3.wigner_3j(a, b, c, dtype=torch.float64)
                weight = float((symbol * table[block[a], block[b], block[c]]).sum())
                if weight < 0:  # none is, to lmax 6
                    raise RuntimeError(
                        f"path {a} {b} {c} has a negative weight; e3nn takes the root of what it is given"
                    )
                instructions.append((a, b, c, "uuu", False, weight**2))
    return o3.TensorProduct(irreps, irreps, irreps, instructions, irrep_normalization="none", path_normalization="none")


def backward(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> None:
    """Forward and backward."""
    torch.autograd.grad(function(x, y).sum(), (x, y))


def best(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call: the best of interleaved rounds, so that a busy moment hits all alike."""
    times = dict.fromkeys(calls, float("inf"))
    for turn in range(rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:  # the first two warm up, e3nn's compiler above all
                times[name] = min(times[name], 1e3 * (time.perf_counter() - start))
    return times


def compare(lmax: int, rows: int, rounds: int) -> dict[str, Any]:
    """One row of the table."""
    irreps = o3.Irreps.spherical_harmonics(lmax, p=1)
    modules = {
        "gaunt": GauntProduct(lmax, lmax, lmax),
        "e3nn_full": o3.FullTensorProduct(irreps, irreps),
        "e3nn_same_map": same_map(lmax),
    }
    x, y = (torch.randn(rows, (lmax + 1) ** 2, requires_grad=True) for _ in range(2))
    with torch.no_grad():
        ours, theirs = modules["gaunt"](x, y), modules["e3nn_same_map"](x, y)
        error = float((ours - theirs).abs().max() / ours.abs().max())
    if error > 1e-4:
        raise RuntimeError(f"the two are not the same map at lmax {lmax}: {error:.1e}")
    row: dict[str, Any] = {"lmax": lmax, "rows": rows, "same_map_error": error}
    with torch.no_grad():
        row["forward_ms"] = best({name: lambda m=module: m(x, y) for name, module in modules.items()}, rounds)
    row["backward_ms"] = best({name: lambda m=module: backward(m, x, y) for name, module in modules.items()}, rounds)
    for kind in ("forward", "backward"):
        times = row[f"{kind}_ms"]
        row[f"{kind}_ratio"] = {name: times[name] / times["gaunt"] for name in ("e3nn_full", "e3nn_same_map")}
    return row


def main() -> None:
    """Run and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="lmax to 2 and few rounds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")  # e3nn compiles with TorchScript, which torch has deprecated
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    rows = [compare(lmax, 1000, 5 if options.quick else 40) for lmax in ((1, 2) if options.quick else (1, 2, 3, 4))]
    report = {
        "machine": {"processor": _processor(), "system": platform.system(), "torch": torch.__version__, "threads": 1},
        "commit": commit or None,
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
