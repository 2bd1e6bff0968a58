"""The two-phase step against double backward, step by step in turn: python benchmarks/two_phase.py [--quick]

Time: whole optimizer steps of engines as a worker makes them, one thread a process; the ratio is the median of those of
neighbouring steps, by the clock and by processor seconds of the process, which others' work disturbs less. Memory: what
autograd keeps for gradients, at most at once, each piece of memory counted once; with --fresh also how far the resident
memory of a fresh process rises during its first steps. FSDP2: two gloo ranks on this machine, the whole model as one
unit with double backward, and blocks with two phases.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from measuring import Contention, Goal, Report, options_of, write
from torchrun import name_of, ranks_on
from two_phase_cases import (
    QUICK,
    SIZES,
    Size,
    allocated,
    batch_of,
    engine_of,
    functorch,
    kept,
    nothing_fused,
    step,
    timed,
    torch_rules,
)

from jobs.world import World

DOUBLE, TWO = "double backward", "two phases"
SINGLE = {
    DOUBLE: {"kind": "single"},
    TWO: {"kind": "single", "force_gradient": "two_phase"},
    "two phases, recomputed": {"kind": "single", "force_gradient": "two_phase", "recompute": True},
}
SHARDED = {DOUBLE: {"kind": "fsdp"}, TWO: {"kind": "fsdp", "units": "blocks", "force_gradient": "two_phase"}}
Figures = dict[str, list[tuple[float, float]]]


def in_turn(cases: Mapping[str, Callable[[], None]], steps: int) -> Figures:
    """Wall and processor seconds of each case in each turn, after two that do not count."""
    found: Figures = {name: [] for name in cases}
    for turn in range(steps + 2):
        for name, case in cases.items():
            figure = timed(case)
            if turn >= 2:
                found[name].append(figure)
    return found


def ratio(found: Figures, name: str, clock: int, against: str = DOUBLE) -> float:
    """Of a case's seconds to those of another in the same turn: the median."""
    return statistics.median(a[clock] / b[clock] for a, b in zip(found[name], found[against], strict=True))


def row(size: Size, name: str, found: Figures, bytes_kept: Mapping[str, int], **more: Any) -> dict[str, Any]:
    """A row of a table."""
    return {
        "size": size.name,
        "case": name,
        "ms a step": round(1e3 * statistics.median(wall for wall, _ in found[name]), 1),
        "time, ratio": round(ratio(found, name, 0), 3),
        "processor time, ratio": round(ratio(found, name, 1), 3),
        "kept, MiB": round(bytes_kept[name] / 2**20, 2),
        "kept, ratio": round(bytes_kept[name] / bytes_kept[DOUBLE], 3),
        **more,
    }


def single(size: Size, steps: int, device: torch.device, *, fresh: bool) -> list[dict[str, Any]]:
    """One process."""
    batch = batch_of(size).to(device)
    engines = {name: engine_of(size, strategy, World(), device) for name, strategy in SINGLE.items()}
    found = in_turn({name: lambda e=engine: step(e, batch) for name, engine in engines.items()}, steps)
    bytes_kept = {name: kept(engine, batch) for name, engine in engines.items()}
    more: dict[str, dict[str, Any]] = {name: {} for name in SINGLE}
    if device.type == "cuda":
        more = {
            name: {"allocated, MiB": allocated(lambda e=engine: step(e, batch))} for name, engine in engines.items()
        }
    elif fresh:
        more = {name: {"resident, rise, MiB": _elsewhere("--resident", size.name, name)["rise"]} for name in SINGLE}
    return [row(size, name, found, bytes_kept, **more[name]) for name in SINGLE]


def tried(size: Size, steps: int) -> list[dict[str, Any]]:
    """The ways that led to the one that is used, and those that did not."""
    batch = batch_of(size)
    engines = {DOUBLE: engine_of(size, SINGLE[DOUBLE], World())}
    functional = "torch.func.jvp, not fused"
    ways: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
        TWO: contextlib.nullcontext,
        "torch's rules for zeros": torch_rules,
        "products not fused": nothing_fused,
        "neither": _neither,
        functional: nothing_fused,
    }
    engines |= {name: engine_of(size, SINGLE[TWO], World()) for name in ways}
    engines[functional] = engine_of(size, SINGLE[DOUBLE], World())

    def once(name: str) -> None:
        with ways.get(name, contextlib.nullcontext)():
            (functorch if name == functional else step)(engines[name], batch)

    found = in_turn({name: lambda n=name: once(n) for name in engines}, steps)
    bytes_kept = {}
    for name in engines:
        if name != functional:  # functorch refuses the hooks by which memory is counted
            with ways.get(name, contextlib.nullcontext)():
                bytes_kept[name] = kept(engines[name], batch)
    rows = [row(size, name, found, bytes_kept | {functional: 0}) for name in engines]
    for one in rows:
        if one["case"] == functional:
            one["kept, MiB"] = one["kept, ratio"] = "not counted"
    return rows


@contextlib.contextmanager
def _neither() -> Any:
    with torch_rules(), nothing_fused():
        yield


def sharded(sizes: Sequence[Size], steps: int) -> list[dict[str, Any]]:
    """Two ranks; times of the first, memory of the one that keeps more."""
    with tempfile.TemporaryDirectory() as folder:
        names = ",".join(size.name for size in sizes)
        ranks = [_start("--rank", str(rank), folder, names, str(steps)) for rank in range(2)]
        answers = [json.loads(rank.communicate()[0].splitlines()[-1]) for rank in ranks]
    rows = []
    for size, *both in zip(sizes, *answers, strict=True):
        found = {name: [(wall, own) for wall, own in figures] for name, figures in both[0]["times"].items()}
        most = {name: max(answer["kept"][name] for answer in both) for name in SHARDED}
        rows += [row(size, name, found, most) for name in SHARDED]
    return rows


def rank_main(rank: int, folder: str, sizes: Sequence[Size], steps: int) -> None:
    """A rank of `sharded`."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    answers = []
    for size in sizes:
        batch = batch_of(size, seed=rank)
        engines = {name: engine_of(size, strategy, World(rank, 2)) for name, strategy in SHARDED.items()}
        found = in_turn({name: lambda e=engine, b=batch: step(e, b) for name, engine in engines.items()}, steps)
        answers.append({"times": found, "kept": {name: kept(engine, batch) for name, engine in engines.items()}})
    sys.stdout.write("\n" + json.dumps(answers) + "\n")
    dist.destroy_process_group()


def resident_main(size: Size, name: str) -> None:
    """How far the resident memory rises during three steps, beyond that of a step on a tiny batch."""
    step(engine_of(QUICK[0], SINGLE[name], World()), batch_of(QUICK[0]))
    engine, batch = engine_of(size, SINGLE[name], World()), batch_of(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        step(engine, batch)
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    sys.stdout.write("\n" + json.dumps({"rise": round(rise, 1)}) + "\n")


def _start(*arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _elsewhere(*arguments: str) -> dict[str, Any]:
    with _start(*arguments) as process:
        answer: dict[str, Any] = json.loads(process.communicate()[0].splitlines()[-1])
    return answer


def main() -> None:
    """Run and write the results."""
    options = options_of(
        __doc__,
        ("--device", {"default": "cpu", "help": "cuda leaves out FSDP2 and what was tried"}),
        ("--fresh", {"action": "store_true", "help": "also the resident memory of fresh processes"}),
    )
    ranks_on(options.device)
    device = torch.device(options.device)
    sizes, steps = (QUICK, 2) if options.quick else (SIZES, 8 * options.rounds)
    torch.set_num_threads(1)
    tables: dict[str, list[dict[str, Any]]] = {"One process": []}
    for size in sizes:
        contention = Contention()
        tables["One process"] += single(size, steps, device, fresh=options.fresh)
        options.shares.append(contention.cores())
    if device.type == "cpu":
        contention = Contention()
        tables["What was tried"] = tried(sizes[min(1, len(sizes) - 1)], steps)
        options.shares.append(contention.cores())
        contention = Contention()
        tables["FSDP2 on two ranks"] = sharded(sizes, steps)
        options.shares.append(contention.cores())
    report = Report(
        "two_phase",
        "Two phases against double backward",
        {
            "steps of each, in turn": steps,
            "sizes": {
                s.name: f"{s.structures} x {s.atoms} atoms, C {s.channels}, lmax {s.lmax}, {s.layers} layers"
                for s in sizes
            },
            "threads of a process": 1,
            "device": name_of(options.device),
        },
        tables=tables,
        goals=[
            Goal(f"{column}, {table}, worst size", max(r[column] for r in rows if r["case"] == TWO), wanted, less=True)
            for table, rows in tables.items()
            if table != "What was tried"
            for column, wanted in (("processor time, ratio", 1.1), ("time, ratio", 1.1), ("kept, ratio", 0.8))
        ],
        notes=[
            "Kept: without parameters and the batch; of the two phases whichever keeps more.",
            "FSDP2: blocks are gathered four times a step, forward and backward in both phases; one unit once.",
        ],
    )
    write(report, options)


if __name__ == "__main__":
    named = {size.name: size for size in (*SIZES, *QUICK)}
    if sys.argv[1:2] == ["--rank"]:
        torch.set_num_threads(1)
        rank_main(int(sys.argv[2]), sys.argv[3], [named[name] for name in sys.argv[4].split(",")], int(sys.argv[5]))
    elif sys.argv[1:2] == ["--resident"]:
        torch.set_num_threads(1)
        resident_main(named[sys.argv[2]], sys.argv[3])
    else:
        main()
