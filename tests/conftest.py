"""What every kind of test may ask for: a store in a folder, an S3 server, a command whose processes are all known."""

import contextlib
import fcntl
import importlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from xdist.scheduler import LoadFileScheduling

from cluster.marker import VARIABLE
from cluster.store import Store, open_store


def pytest_itemcollected(item: pytest.Item) -> None:
    """Fault tests are slow ones."""
    if Path(__file__).parent / "faults" in item.path.parents:
        item.add_marker(pytest.mark.slow)


# Ray's workers are nicer than other processes, and would wait for the tests that run beside those that start Ray.
AS_NICE_AS_OTHERS = {"RAY_worker_niceness": "0"}
os.environ |= AS_NICE_AS_OTHERS
START_RAY = (
    "tests/integration/",
    "tests/e2e/",
    "tests/faults/test_interrupted",
    "tests/faults/test_nodes_lost",
    "tests/faults/test_training_survives",
)


# It starts Ray too, but nothing in it is timed, and it takes ten minutes: whoever is free first does it, at the end.
LAST = "tests/faults/test_interrupting_the_demo"


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the timeout of a test: waiting is no part of it
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that is `alone` waits until no other process of this checkout is in a test, and the others for it."""
    alone = item.get_closest_marker("alone") is not None
    # Two files of the checkout stand for two locks: who wants the machine for itself is waited for at the gate, so that
    # tests that begin in the meantime do not pass by.
    with Path(__file__).open() as gate, (Path(__file__).parents[1] / "pyproject.toml").open() as machine:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The last ones go behind all others."""
    items.sort(key=lambda item: item.nodeid.startswith(LAST))


class OneForRay(LoadFileScheduling):
    """Tests go to processes by file; those that start Ray, and may be timed, to one and the same, in their order."""

    def _split_scope(self, nodeid: str) -> str:
        return "ray" if nodeid.startswith(START_RAY) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneForRay:
    """How `-n` divides the tests."""
    return OneForRay(config, log)


@dataclass
class S3Server:
    """A running S3 server with one bucket. `environment` is what a process needs to use it."""

    endpoint: str
    bucket: str = "equi-tests"
    environment: dict[str, str] = field(default_factory=dict)

    def uri(self, prefix: str | None = None) -> str:
        """The store at `prefix`; without one, a new prefix that nobody else uses."""
        return f"s3://{self.bucket}/{prefix or uuid.uuid4().hex}"

    def client(self) -> Any:
        """boto3's own view of the server, for what a store does not show."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            region_name="us-east-1",
        )

    def break_next(self, *rules: dict[str, Any]) -> None:
        """Make the server fail as `tests/s3_double.py` says; no rule makes it whole again."""
        self._faults("PUT", json.dumps(rules).encode())

    def faults_left(self) -> int:
        """How many of the failures asked for have not happened yet."""
        return sum(rule.get("times", 1) for rule in json.loads(self._faults("GET", None)))

    def requests(self) -> list[tuple[str, str, str]]:
        """Method, address and range ("bytes=0-9" or empty) of each request since `break_next` was last called."""
        return [(method, url, span) for method, url, span in json.loads(self._faults("GET", None, "_requests"))]

    def _faults(self, method: str, body: bytes | None, page: str = "_faults") -> bytes:
        request = urllib.request.Request(f"{self.endpoint}/{page}", data=body, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return bytes(answer.read())


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server (moto) for the whole session; its `environment` is for tests and their children."""
    command = [sys.executable, str(Path(__file__).with_name("s3_double.py"))]
    # Started inside a Ray session of some test, it would carry that session's mark and be killed with it.
    unmarked = {name: value for name, value in os.environ.items() if name != VARIABLE}
    with subprocess.Popen(command, env=unmarked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            pytest.fail("the S3 server did not start; its error is above")
        server = S3Server(endpoint)
        server.environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        client = server.client()
        client.create_bucket(Bucket=server.bucket)
        client.close()
        yield server
        process.terminate()


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, whole, with this process's environment pointing at it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    s3_server.break_next()
    return s3_server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return open_store(str(tmp_path / "store"))


@dataclass
class Started:
    """A running command. All it starts carries `mark` in its environment, and `temporary` is its TMPDIR."""

    process: "subprocess.Popen[str]"
    mark: str
    temporary: Path
    lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        """What it has printed so far, both streams."""
        return "".join(self.lines)

    def wait_for(self, text: str, seconds: float) -> None:
        """Until it has printed `text`; the test fails if it ends before that, or takes longer."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            if self.process.poll() is not None or time.monotonic() > deadline:
                time.sleep(0.5)  # the last lines may still be on their way
                if text not in self.output:
                    pytest.fail(f"{text!r} was not printed (exit code {self.process.poll()}):\n{self.output}")
            time.sleep(0.05)

    def exit_code(self, seconds: float) -> int:
        """Wait for its end; the test fails if it takes longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it has not ended within {seconds:.0f} s:\n{self.output}")

    def send(self, number: signal.Signals, *, to_group: bool = False) -> None:
        """A signal to the process, or to its whole group as a terminal sends Ctrl-C."""
        (os.killpg if to_group else os.kill)(self.process.pid, number)

    def processes(self) -> dict[int, str]:
        """Live processes of the command, itself included: number and command line."""
        sign = f"EQUI_TEST={self.mark}".encode()
        found = {}
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
                if sign in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                    found[pid] = words.decode(errors="replace").strip()
        return found

    def left_after(self, seconds: float) -> dict[int, str]:
        """Wait until none of its processes lives, so long at most. Returns those that still do."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


@contextlib.contextmanager
def started(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Run `command` in `folder` as the leader of a process group; nothing of it outlives the block."""
    mark = secrets.token_hex(8)
    temporary = Path(tempfile.mkdtemp(prefix="eq-"))  # short: Ray's unix sockets are below it
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "EQUI_"))}
    own = {"EQUI_TEST": mark, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", **AS_NICE_AS_OTHERS}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**inherited, **own, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    running = Started(process, mark, temporary)
    reader = threading.Thread(target=_read, args=(process, running.lines), daemon=True)
    reader.start()
    try:
        yield running
    finally:
        for _ in range(50):
            for pid in running.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not running.left_after(0.2):
                break
        process.wait(30)
        reader.join(30)
        shutil.rmtree(temporary, ignore_errors=True)


def _read(process: "subprocess.Popen[str]", lines: list[str]) -> None:
    with process:
        for line in process.stdout or ():
            lines.append(line)


@pytest.fixture(scope="session")
def start() -> Callable[..., contextlib.AbstractContextManager[Started]]:
    """`with start(command, folder) as running`: see `started`."""
    return started


@pytest.fixture(scope="session")
def stretch() -> float:
    """How much longer than on a free machine things may take, because others compute here too; at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture
def o3() -> Iterator[ModuleType]:
    """`e3nn.o3`. It makes its constants in the default dtype: float32 would hide everything below 1e-6."""
    import torch  # seconds, which most tests need not wait for

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # it scripts functions on import, which torch has deprecated
        torch.set_default_dtype(torch.float64)
        yield importlib.import_module("e3nn.o3")
        torch.set_default_dtype(torch.float32)
