"""A sweep on a head that has no workers: the autoscaler (v2) starts real raylets for it and takes them away.

Ray's ready-made autoscaling test cluster stops every Ray process of the machine, so this head is our own: a
child of the test in its own session, with its own ports, folder and token. Everything it starts inherits a marker
in the environment, because Ray renames its processes and moves some of them out of the session.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from cluster.marker import VARIABLE, kill_leftovers

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

HERE = Path(__file__).parent / "autoscaling"
LIMIT = 240.0  # seconds for the whole story; a quiet machine needs about 60


@dataclass
class Head:
    """A running head: where it listens, and the environment that reaches it."""

    address: str
    environment: dict[str, str]
    log: Path
    deadline: float


def free_ports(number: int) -> list[int]:
    """Distinct ports that nobody listens on; all are held until the last is found."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for held in sockets:
            held.bind(("", 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


def autoscaling(gcs_address: str) -> dict[str, object]:
    """The cluster file: no workers at first, at most two of one CPU; six idle seconds end one."""
    lists = (
        "initialization_commands setup_commands head_setup_commands worker_setup_commands "
        "head_start_ray_commands worker_start_ray_commands cluster_synced_files rsync_exclude rsync_filter"
    )
    worker = {"CPU": 1, "object_store_memory": 80 * 1024 * 1024}
    return {
        "cluster_name": "local",
        "max_workers": 2,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": "localprovider.LocalProvider",
            "gcs_address": gcs_address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "small": {"resources": worker, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in lists.split()},
    }


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, int(port))) == 0


@pytest.fixture
def head() -> Iterator[Head]:
    deadline = time.monotonic() + LIMIT
    # Not pytest's folder: Ray puts UNIX sockets there, whose paths may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="eq-"))
    gcs, client, metrics, agent, agent_grpc = free_ports(5)
    address = f"127.0.0.1:{gcs}"
    marker = secrets.token_hex(16)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    cluster = folder / "autoscaler.json"
    cluster.write_text(json.dumps(autoscaling(address)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        VARIABLE: marker,
        "SPT_NOENV": "1",  # or Ray's new process titles overwrite the environment that shows the marker
        "PYTHONPATH": str(HERE),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_TMPDIR": str(folder),
    }
    scaling = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    ray = str(Path(sys.executable).with_name("ray"))
    arguments = [
        *[ray, "start", "--head", "--block", f"--port={gcs}", f"--temp-dir={folder / 'ray'}"],
        *[f"--autoscaling-config={cluster}", '--system-config={"enable_autoscaler_v2":true}'],
        *[
            "--num-cpus=0",
            "--object-store-memory=100000000",
            "--include-dashboard=false",
            "--disable-usage-stats",
        ],
        *[f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}"],
        *[f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"],
    ]
    log = folder / "head.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            arguments, env=environment | scaling, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while not listens(address):
            assert process.poll() is None, f"the head ended: {log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"the head did not start: {log.read_text()[-3000:]}"
            time.sleep(0.2)
        yield Head(address, environment, log, deadline)
    finally:
        survivors = kill_leftovers(marker)
        process.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)
        assert not survivors


def test_a_sweep_grows_a_cluster_without_workers_and_leaves_it_without_workers(head: Head, tmp_path: Path) -> None:
    arguments = [sys.executable, str(HERE / "sweep.py"), head.address, str(tmp_path), "4", "3"]
    seconds = head.deadline - time.monotonic()
    ran = subprocess.run(
        [*arguments, str(seconds - 10)],
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        start_new_session=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:] + head.log.read_text()[-3000:]
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["errors"] == []
    assert report["scores"] == [0, 1, 1, 4]
    assert report["best"] == 2
    assert report["workers"][0] == 0, report["workers"]
    assert 1 <= max(report["workers"]) <= 2
    assert report["workers"][-1] == 0
