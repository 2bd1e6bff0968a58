"""What every kind of test may ask for: a store in a folder, and an S3 server in a process of its own."""

import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from cluster.store import Store, open_store


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

    def _faults(self, method: str, body: bytes | None) -> bytes:
        request = urllib.request.Request(f"{self.endpoint}/_faults", data=body, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return bytes(answer.read())


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server (moto) for the whole session; its `environment` is for tests and their children."""
    command = [sys.executable, str(Path(__file__).with_name("s3_double.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
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
