"""A Ray head in a process of its own, with token authentication, that leaves nothing behind."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.marker import VARIABLE, kill_leftovers
from cluster.token import ensure_token

START_S = 120.0
WORKER_PORTS = 200


@dataclass(frozen=True)
class RayHead:
    """A running head."""

    address: str  # of its dashboard: http://127.0.0.1:port
    token_file: Path
    gcs: str  # host:port
    marker: str
    pid: int

    def kill(self) -> None:
        """End the head and everything it has started, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        kill_leftovers(self.marker)


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RayHead]:
    """A head for the whole session. Jobs on it use this machine's interpreter and file system."""
    with running_head() as head:
        yield head


@pytest.fixture
def new_head() -> Callable[[], contextlib.AbstractContextManager[RayHead]]:
    """Starts a head of one's own, for tests that kill it."""
    return running_head


@contextlib.contextmanager
def running_head(*, cpus: int = 2, environment: dict[str, str] | None = None) -> Iterator[RayHead]:
    """`ray start --head --block` in a session of its own. Never `ray stop`: that ends every Ray on the machine."""
    with tempfile.TemporaryDirectory(prefix="equi-", ignore_cleanup_errors=True) as folder:  # unix sockets: short
        home = Path(folder)
        token_file = ensure_token(home / "token")
        gcs, dashboard, client, agent, agent_grpc, metrics, runtime_env = free_ports(7)
        marker = secrets.token_hex(8)
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
            f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}",
            f"--runtime-env-agent-port={runtime_env}", "--min-worker-port=0", "--max-worker-port=0",
            f"--temp-dir={home / 'ray'}", f"--num-cpus={cpus}", "--object-store-memory=200000000",
            "--disable-usage-stats", "--node-ip-address=127.0.0.1",
        ]  # fmt: skip
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "EQUI_"))}
        settings = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "SPT_NOENV": "1",
            VARIABLE: marker,
        }
        with (home / "head.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**inherited, **settings, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            address = f"http://127.0.0.1:{dashboard}"
            wait_for_node(address, token_file, process, home / "head.log")
            yield RayHead(address, token_file, f"127.0.0.1:{gcs}", marker, process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            survivors = kill_leftovers(marker)
            assert not survivors, survivors


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listened on a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for_node(address: str, token_file: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the head counts its own node, which is well after its first answer."""
    token = token_file.read_text()
    request = urllib.request.Request(f"{address}/api/v0/nodes", headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), opener.open(request, timeout=5) as answer:
            if json.load(answer)["data"]["result"]["total"] > 0:
                return
        time.sleep(0.5)
    raise RuntimeError(f"the head did not start:\n{log.read_text()[-3000:]}")
