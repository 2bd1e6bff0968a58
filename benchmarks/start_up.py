"""From `equi submit` to the first step on a running cluster, and where the time goes: python benchmarks/start_up.py

A head is started as `ray start` does it; then runs of two workers (ZeRO-1, a small potential) are submitted to it as
Ray jobs. The stages of a start write down when they were over. Beside it: the same workers started by Ray Train as it
is, and our own start, on Ray Train too, with each of our measures switched off. Those are drivers that are connected
already; their clock begins before anything of the run is looked up.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import Goal, Report, in_turn, options_of, ratio, spread, write
from synthetic import publish_structures, structures

from cluster.marker import VARIABLE, kill_leftovers
from cluster.runs import load_run
from cluster.store import open_store
from cluster.token import ensure_token

SPEC = """
spec_version: 1
kind: train
name: start
data: {uri: datasets/structures, batch: {structures: 4}}
model: {name: gaunt_potential, params: {lmax: 1, channels: 4, layers: 1, cutoff: 3.0}}
embedding: {radial: {name: bessel, params: {number: 4}}}
objective: {name: energy_force}
schedule: {steps: 20, warmup: 1, eval_every: 20}
strategy: {kind: deepspeed, zero_stage: 1}
resources: {workers: 2}
checkpoint: {every_steps: 20}
"""
GOAL_S = 8.0
START_S = 180.0
# What our start does that a plain one would not; each case leaves one out.
MEASURES = (
    "processes start while the driver looks up the spec",
    "torch and deepspeed are imported meanwhile",
    "Ray Train polls often, and leaves out what is not used",
)
USUAL = {  # what Ray Train does where it is not told otherwise
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2.0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "1",
    "RAY_TRAIN_METRICS_ENABLED": "1",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "1",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "1",
}


@dataclass(frozen=True)
class Cluster:
    """A running head and the store beside it."""

    dashboard: str
    gcs: str
    token: Path
    folder: Path

    @property
    def store(self) -> str:
        """Its URI."""
        return open_store(str(self.folder / "store")).uri


@contextlib.contextmanager
def cluster(cpus: int = 2) -> Iterator[Cluster]:
    """`ray start --head` in a session of its own; nothing of it outlives the block."""
    with tempfile.TemporaryDirectory(prefix="equi-", ignore_cleanup_errors=True) as name:
        folder, marker, ports = Path(name), secrets.token_hex(8), free_ports(6)
        token = ensure_token(folder / "token")
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
            f"--port={ports[0]}", "--dashboard-host=127.0.0.1", f"--dashboard-port={ports[1]}",
            f"--ray-client-server-port={ports[2]}", f"--dashboard-agent-listen-port={ports[3]}",
            f"--dashboard-agent-grpc-port={ports[4]}", f"--runtime-env-agent-port={ports[5]}",
            "--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={folder / 'ray'}", f"--num-cpus={cpus}",
            "--object-store-memory=200000000", "--disable-usage-stats", "--node-ip-address=127.0.0.2",
        ]  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "EQUI_"))}
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "SPT_NOENV": "1", VARIABLE: marker}
        own |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        with (folder / "head.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=inherited | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            dashboard = f"http://127.0.0.1:{ports[1]}"
            wait_for_node(dashboard, token.read_text())
            publish_structures(open_store(str(folder / "store")), structures(64), held_out=4)
            yield Cluster(dashboard, f"127.0.0.2:{ports[0]}", token, folder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kill_leftovers(marker)


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listened on a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for_node(dashboard: str, token: str) -> None:
    """Until the head counts its own node."""
    request = urllib.request.Request(f"{dashboard}/api/v0/nodes", headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), opener.open(request, timeout=5) as answer:
            if json.load(answer)["data"]["result"]["total"] > 0:
                return
        time.sleep(0.5)
    raise RuntimeError("the head did not start")


def submitted(there: Cluster, stages: dict[str, list[float]]) -> float:
    """Seconds from the command line to the first step of all workers; adds those of each stage to `stages`."""
    run = f"start-{secrets.token_hex(4)}"
    (there.folder / "train.yaml").write_text(SPEC)
    words = ["submit", "train.yaml", "--id", run, "--store", there.store, "--address", there.dashboard]
    begun = time.time()
    command = [sys.executable, "-c", "from cluster.cli import main; main()", *words, "--token-file", str(there.token)]
    subprocess.run(command, cwd=there.folder, check=True, capture_output=True)
    told = time.time()
    store, key = open_store(there.store), f"runs/{run}/starts/001-001.json"
    deadline = time.monotonic() + START_S
    while not store.exists(key):
        if time.monotonic() > deadline or load_run(store, run).is_over:
            raise RuntimeError(f"run {run} has not made a step:\n{load_run(store, run)}")
        time.sleep(0.1)
    kept = json.loads(store.read(key))
    driver, ranks = kept["driver"], kept["ranks"]
    ends = {
        "command line": told,
        "job: process of the driver": driver["process"],
        "driver: imports, Ray": driver["launch"],
    }
    ends |= {"places reserved": driver["places"], "spec looked up": driver["resolved"], "workers told": driver["told"]}
    ends |= {f"worker: {name}": max(rank[name] for rank in ranks) for name in ranks[0]}
    last = begun
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        stages.setdefault(name, []).append(end - last)
        last = end
    while load_run(store, run).status in ("pending", "running"):  # its CPUs are free again
        time.sleep(0.2)
    return last - begun


def started(there: Cluster, case: str, settings: dict[str, str]) -> float:
    """Seconds from `fit()`, or ours, to the first step, in a driver of its own that is connected already."""
    environment = {**os.environ, **settings, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(there.token)}
    environment |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "EQUI_BENCH_CASE": case, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__.replace("start_up.py", "start_up_driver.py"), there.gcs, there.store, SPEC]
    done = subprocess.run(command, env=environment, cwd=there.folder, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Run and write the results."""
    options = options_of(__doc__)
    stages: dict[str, list[float]] = {}
    with cluster() as there:
        whole = in_turn({"equi submit": lambda: submitted(there, stages)}, options, warm=0 if options.quick else 1)
        cases: dict[str, Any] = {
            "Ray Train": lambda: started(there, "train", {}),
            "ours": lambda: started(there, "ours", {}),
            f"ours, without: {MEASURES[0]}": lambda: started(there, "ours late", {}),
            f"ours, without: {MEASURES[1]}": lambda: started(there, "ours cold", {}),
            f"ours, without: {MEASURES[2]}": lambda: started(there, "ours", USUAL),
        }
        found = in_turn(cases, options, warm=0)
    total = statistics.median(whole["equi submit"])
    keep = options.rounds
    table = [
        {"stage": name, "seconds": round(statistics.median(seconds[-keep:]), 2)} for name, seconds in stages.items()
    ]
    report = Report(
        "start_up",
        "From `equi submit` to the first step, on a cluster that runs already",
        {"workers": 2, "strategy": "ZeRO-1", "CPUs of the cluster": 2},
        tables={"Where the time goes": [*table, {"stage": "all", "seconds": round(total, 2)}]},
        goals=[
            Goal("seconds from submit to the first step", total, GOAL_S, less=True),
            Goal("Ray Train's start / ours", ratio(found, "Ray Train", "ours"), 1.0),
        ],
        notes=[
            "Stages overlap; each is counted from the end of the one before it, so that the column adds up.",
            "A worker's stage is that of the slowest rank.",
        ],
    )
    report.tables["Starting the workers, seconds"] = spread(found, "ours", digits=2)
    write(report, options)


if __name__ == "__main__":
    main()
