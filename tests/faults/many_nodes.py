"""A run driven on a cluster of separate raylets, for tests that take nodes away: `many_nodes.py STORE RUN SPEC CPUS..`.

Each number of CPUs is a node; the first is the head, where the driver is. Lines of the file `commands` in TMPDIR add a
node (`add CPUS`), kill the newest one (`remove`) or announce that it will be taken away (`drain SECONDS`).
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster
from rich.console import Console

import jobs.launch.run
from cluster.driver import attempt, perform
from cluster.progress import Progress
from cluster.runs import create_run
from cluster.session import open_session
from cluster.stopping import StopSignals
from cluster.store import open_store
from cluster.token import ensure_token

home = Path(os.environ["TMPDIR"])
jobs.launch.run.GROW_AFTER_S = 2.0
# Loopback, but not 127.0.0.1: a driver that connects to that is sent to the machine's own address by Ray.
NODE = {"node_ip_address": "127.0.0.2", "object_store_memory": 100_000_000, "include_dashboard": False}


def listen(cluster: Cluster, driver: "subprocess.Popen[bytes]") -> None:
    """Obey the lines of the file, as they come, until the driver ends. In the main thread: Ray's nodes ask for it."""
    nodes: list[Any] = list(cluster.worker_nodes)
    (home / "commands").touch()
    done = 0
    while driver.poll() is None:
        lines = (home / "commands").read_text().splitlines()
        if len(lines) == done:
            time.sleep(0.1)
            continue
        word, *arguments = lines[done].split()
        if word == "add":
            nodes.append(cluster.add_node(num_cpus=int(arguments[0]), **NODE))
        elif word == "remove":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        elif word == "drain":
            from ray.core.generated import autoscaler_pb2

            deadline = int(1000 * (time.time() + float(arguments[0])))
            reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
            nodes[-1].get_gcs_client().drain_node(nodes[-1].node_id, reason, "a test", deadline, timeout=30)
        sys.stdout.write(f"{lines[done]}: done\n")
        done += 1


def drive(address: str, store_uri: str, run_id: str) -> None:
    """The run's driver, on a cluster that is there."""
    store = open_store(store_uri)
    progress = Progress(console=Console(width=160), store=store, run_id=run_id)
    with (
        StopSignals() as signals,
        attempt(store, run_id, signals=signals) as current,
        open_session(address, home=home) as session,
    ):
        signals.install()
        current.outputs = perform(current.record, store, session, progress, signals)


def main(store_uri: str, run_id: str, spec: str, *cpus: str) -> int:
    """Drive the run to its end, in a process of its own, and take the cluster down."""
    ensure_token(Path(os.environ["RAY_AUTH_TOKEN_PATH"]))
    create_run(open_store(store_uri), kind="train", name="springs", spec=Path(spec).read_text(), run_id=run_id)
    head = {"num_cpus": int(cpus[0]), "temp_dir": str(home / "ray"), **NODE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for number in cpus[1:]:
            cluster.add_node(num_cpus=int(number), **NODE)
        # Not here: Ray in one process cannot be both the nodes and their driver once a token is wanted.
        command = [sys.executable, __file__, "drive", cluster.address, store_uri, run_id]
        with subprocess.Popen(command) as driver:
            listen(cluster, driver)
        return driver.returncode
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        drive(*sys.argv[2:])
    else:
        sys.exit(main(*sys.argv[1:]))
