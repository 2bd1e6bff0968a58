"""What a step costs under the service: python benchmarks/service_overhead.py [--device cuda]

The same loop with the same strategy as workers of a run (of Ray Train, with everything a run has) and as processes
of torchrun; and the same model, batches and optimizer in the loops that Hugging Face Accelerate and Lightning Fabric
ask for. Two ranks of one thread each, gloo. Whole runs in turn; a step's time is the median over stretches of 10 steps
after the first 30, from the times at which the leading rank reported them. On GPUs, a rank on each, the service is left
out and Ray is not imported: our loop under torchrun against those of the others.
"""

import contextlib
import itertools
import json
import os
import secrets
import statistics
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from measuring import Goal, Report, in_turn, options_of, ratio, spread, write
from rich.console import Console
from synthetic import publish_structures, structures
from torchrun import name_of, ranks_on, torchrun

from cluster.store import Store, open_store
from jobs.build import resolve
from jobs.spec.train import TrainSpec

if TYPE_CHECKING:
    from cluster.session import Session

RANK = Path(__file__).with_name("service_overhead_rank.py")
PEERS = Path(__file__).parent.parent / "build" / "peers"
WARM, STRETCH = 30, 10
EACH = 4  # structures of a rank and step
NICENESS = "15"  # of the workers of Ray, unless it is told otherwise
STRATEGIES: dict[str, dict[str, Any]] = {
    "DDP": {"kind": "ddp"},
    "ZeRO-1": {"kind": "deepspeed", "zero_stage": 1},
    "FSDP2": {"kind": "fsdp"},
}
# Fabric refuses DeepSpeed without a GPU.
LOOPS = {"DDP": ("accelerate", "fabric"), "ZeRO-1": ("accelerate",), "FSDP2": ("accelerate", "fabric")}


def spec_of(strategy: dict[str, Any], steps: int, ranks: int, device: str) -> TrainSpec:
    """A small potential whose step takes some tens of milliseconds on one thread."""
    return TrainSpec.model_validate(
        {
            "spec_version": 1,
            "kind": "train",
            "name": "overhead",
            "data": {"uri": "datasets/structures", "batch": {"structures": EACH * ranks}},
            "model": {"name": "gaunt_potential", "params": {"lmax": 1, "channels": 16, "layers": 2, "cutoff": 4.0}},
            "embedding": {"radial": {"name": "bessel", "params": {"number": 8}}},
            "objective": {"name": "energy_force"},
            "optimizer": {"params": {"lr": 1e-5}},
            "schedule": {"steps": steps, "warmup": 1, "eval_every": steps, "ema": 0.0},
            "guard": {"spike": None},
            "strategy": strategy,
            "resources": {"workers": ranks, "gpus_per_worker": int(device == "cuda")},
            "checkpoint": {"every_steps": steps},
        }
    )


def of_stretches(times: list[float]) -> float:
    """Milliseconds a step, from the Unix time at which each was done."""
    ends = times[WARM::STRETCH]
    return 1000 * statistics.median((b - a) / STRETCH for a, b in itertools.pairwise(ends))


def reported(store: Store, run: str) -> list[float]:
    """When each step was reported, from the metrics of a run."""
    tables = [pq.read_table(BytesIO(store.read(key))) for key in store.list(f"runs/{run}/metrics/")]
    rows = sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["step"])
    return [row["time"].timestamp() for row in rows]


def under_the_service(store: Store, session: "Session", spec: TrainSpec) -> float:
    """As `equi submit` runs it, from the moment in which the driver has its session."""
    from cluster.context import RunContext
    from cluster.progress import Progress
    from jobs.launch import launch

    run = f"bench-{secrets.token_hex(4)}"
    progress = Progress(console=Console(file=StringIO()), store=store, run_id=run)
    with tempfile.TemporaryDirectory() as workdir:
        context = RunContext(run, store, progress, Path(workdir), False, lambda: False, session)
        launch(spec, lambda: resolve(spec, store), context, attempt=1)
    return of_stretches(reported(store, run))


def under_torchrun(store: Store, spec: TrainSpec, loop: str) -> float:
    """Processes of torchrun, at the niceness that Ray gives its workers. loop: ours, accelerate or fabric."""
    run = f"bench-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        task, out = Path(folder) / "task.json", Path(folder) / "times.json"
        task.write_text(
            json.dumps({"store": store.uri, "run_id": run, "attempt": 1, "resolved": resolve(spec, store).to_json()})
        )
        torchrun(
            RANK,
            *(loop, str(task), str(out)),
            ranks=spec.resources.most,
            device="cuda" if spec.resources.gpus_per_worker else "cpu",
            before=("nice", "-n", NICENESS),
            environment={"PYTHONPATH": os.pathsep.join([str(PEERS), os.environ.get("PYTHONPATH", "")])},
        )
        return of_stretches(reported(store, run) if loop == "ours" else json.loads(out.read_text()))


def there(peer: str) -> bool:
    """Whether a peer is installed, or in the folder of the benchmarks' own."""
    package = {"fabric": "lightning_fabric"}.get(peer, peer)
    return (PEERS / package).exists() or find_spec(package) is not None


def main() -> None:
    """Run and write the results."""
    options = options_of(
        __doc__,
        ("--strategy", {"choices": tuple(STRATEGIES), "help": "only this one"}),
        ("--device", {"default": "cpu", "help": "cuda: without the service, and without Ray"}),
    )
    ranks, gpu = ranks_on(options.device), options.device == "cuda"
    steps = 80 if options.quick else 230
    chosen = {name: one for name, one in STRATEGIES.items() if options.strategy in (None, name)}
    found: dict[str, list[float]] = {}
    refused = []
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        store = open_store(str(Path(home) / "store"))
        publish_structures(store, structures(400), held_out=8)
        session = None
        if not gpu:
            from cluster.session import open_session

            session = stack.enter_context(open_session(home=Path(home), cpus=2))
        for name, strategy in chosen.items():
            spec = spec_of(strategy, steps, ranks, options.device)
            cases: dict[str, Callable[[], float]] = {}
            if session is not None:
                cases[f"{name}: service"] = lambda spec=spec: under_the_service(store, session, spec)
            cases[f"{name}: torchrun"] = lambda spec=spec: under_torchrun(store, spec, "ours")
            for loop in filter(there, LOOPS[name]):
                try:
                    under_torchrun(store, spec_of(strategy, WARM + 2 * STRETCH + 1, ranks, options.device), loop)
                except RuntimeError as error:
                    lines = [line for line in str(error).splitlines() if "Error" in line] or [str(error)[-200:]]
                    refused.append(f"{loop} does not run {name} here: {lines[0].strip()[-200:]}")
                    continue
                cases[f"{name}: {loop}"] = lambda spec=spec, loop=loop: under_torchrun(store, spec, loop)
            found |= in_turn(cases, options, warm=0)
    tables, goals = {}, []
    for name in chosen:
        of = {case.partition(": ")[2]: figures for case, figures in found.items() if case.startswith(f"{name}:")}
        tables[f"{name}, milliseconds a step"] = spread(of, "torchrun", digits=2)
        if not gpu:
            goals.append(Goal(f"{name}: service / torchrun", ratio(of, "service", "torchrun"), 1.02, less=True))
        ours = "torchrun" if gpu else "service"
        goals += [
            Goal(f"{name}: {ours} / {loop}", ratio(of, ours, loop), 1.0, less=True)
            for loop in ("accelerate", "fabric")
            if loop in of
        ]
    settings = {
        "ranks": ranks,
        "device": name_of(options.device),
        "threads of a rank": 1,
        "steps": steps,
        "global batch": f"{EACH * ranks} structures",
    }
    notes = [*refused, "Service and torchrun record every step; the peers' loops record nothing."]
    write(
        Report("service_overhead", "A step under the service, and elsewhere", settings, tables, goals, notes), options
    )


if __name__ == "__main__":
    main()
