"""The head of a Ray cluster, spoken to over HTTP: is it there, does it want a token, is ours the right one.

The token travels in a header of each request and nowhere else: not in the environment, not in the job.
"""

import asyncio
import contextlib
import ipaddress
import json
import logging
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cluster.environment import environment
from cluster.errors import ClusterError, NotFoundError
from cluster.token import read_token

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

TIMEOUT_S = 10.0
ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


class Head:
    """A head whose answer has been seen: `Head.reach(address, token_file)`."""

    def __init__(self, address: str, token: str | None) -> None:
        self.address, self._token = address, token

    def __repr__(self) -> str:
        return f"Head({self.address})"  # never the token

    @classmethod
    def reach(cls, address: str, token_file: Path | None) -> "Head":
        """The head at http://host:port. Raises ClusterError with what to do about it where it is not usable.

        A head on another machine that answers without a token is refused: whoever reaches it may run code there.
        """
        address = checked_address(address)
        token = read_token(token_file) if token_file is not None else None
        status = _ask(address, None)
        if status == 200:
            if not is_loopback(address):
                raise ClusterError(
                    f"the head at {address} answers without a token: anyone who reaches it can run code on it",
                    hint="Start it with RAY_AUTH_MODE=token. Nothing was sent to it.",
                )
            return cls(address, token)
        if status not in (401, 403):
            raise ClusterError(f"{address} answers {status} where the head of a Ray cluster answers 200 or 401")
        if token is None:
            raise ClusterError(f"the head at {address} wants a token", hint="--token-file names a file that holds it.")
        status = _ask(address, token)
        if status in (401, 403):
            raise ClusterError(
                f"the head at {address} refuses the token in {token_file}",
                hint="The file must hold the token the head was started with (its RAY_AUTH_TOKEN_PATH).",
            )
        if status != 200:
            raise ClusterError(f"the head at {address} answers {status}")
        return cls(address, token)

    def submit(
        self, *, submission_id: str, entrypoint: str, runtime_env: dict[str, Any], metadata: Mapping[str, str]
    ) -> None:
        """Start a Ray job. Raises ClusterError; an id that exists already is one too."""
        with self._errors("start the job"):
            self._client().submit_job(
                entrypoint=entrypoint,
                submission_id=submission_id,
                runtime_env=runtime_env,
                metadata=dict(metadata),
            )

    def status(self, submission_id: str) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED. Raises NotFoundError where the head knows no such job."""
        with self._errors("tell about the job"):
            return str(self._client().get_job_status(submission_id).value)

    def stop(self, submission_id: str) -> None:
        """Ask for SIGTERM to the job's driver; Ray kills it some seconds later."""
        with self._errors("stop the job"):
            self._client().stop_job(submission_id)

    def logs(self, submission_id: str) -> str:
        """What the driver has printed so far."""
        with self._errors("show the log of the job"):
            return str(self._client().get_job_logs(submission_id))

    def follow(self, submission_id: str) -> Iterator[str]:
        """Pieces of the driver's output until the job ends."""
        with self._errors("follow the log of the job"), asyncio.Runner() as runner:
            pieces: AsyncIterator[str] = self._client().tail_job_logs(submission_id)
            while True:
                try:
                    yield runner.run(_next(pieces))
                except StopAsyncIteration:
                    return

    def capacity(self) -> dict[str, float] | None:
        """The most CPUs and GPUs the cluster can ever have; None where it may grow, or where nothing is known yet."""
        report = self._json("/api/cluster_status")["data"]["clusterStatus"].get("autoscalerReport") or {}
        nodes = self._json("/api/v0/nodes?detail=true")["data"]["result"]["result"]
        if not has_fixed_nodes(report):
            return None
        alive = [node.get("resources_total") or {} for node in nodes if node.get("state") == "ALIVE"]
        return {name: sum(float(node.get(name, 0)) for node in alive) for name in ("CPU", "GPU")}

    def _json(self, path: str) -> dict[str, Any]:
        try:
            with _open(self.address + path, self._token) as answer:
                document: dict[str, Any] = json.load(answer)
        except (OSError, ValueError) as error:
            raise ClusterError(f"the head at {self.address} does not tell about its nodes: {error}") from error
        return document

    def _client(self) -> "JobSubmissionClient":
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # it tells of every socket
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        # Ray lets these win over the address it is given, and would send our token there.
        with environment({"RAY_ADDRESS": None, "RAY_API_SERVER_ADDRESS": None}):
            return JobSubmissionClient(self.address, headers=headers)

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Ray's errors in our words: it raises RuntimeError for everything and puts whole HTTP answers into it."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(f"the head at {self.address} refuses the token") from error
        except (ConnectionError, OSError) as error:
            raise ClusterError(
                f"the head at {self.address} cannot be reached to {action}", hint="Is the cluster still up?"
            ) from error
        except RuntimeError as error:
            text = str(error)
            if "does not exist" in text or "status code 404" in text:
                raise NotFoundError(f"the head at {self.address} knows no such job") from error
            raise ClusterError(f"the head at {self.address} could not {action}: {_gist(text)}") from error


def has_fixed_nodes(report: Mapping[str, Any]) -> bool:
    """Whether a head's autoscaler report says that nobody adds nodes.

    A head without an autoscaler reports each node as a type of its own, `node_<node id>`; one with an autoscaler
    reports the types it was configured with. No report yet: not known, so no.
    """
    types = report.get("nodeTypeMapping") or {}
    return bool(types) and all(name == f"node_{node_id}" for node_id, name in types.items())


def checked_address(address: str) -> str:
    """`http://host:port` without anything behind it. Raises ClusterError."""
    text = address.rstrip("/")
    try:
        split = urlsplit(text)
        port = split.port
    except ValueError:
        split, port = urlsplit(""), None
    usable = split.scheme in ("http", "https") and split.hostname and not (split.path or split.query)
    if not usable or (port is None and split.scheme == "http") or split.username:
        raise ClusterError(
            f"{address!r} is no address of a Ray head",
            allowed="http://host:port, where port is the head's dashboard port (8265 unless chosen otherwise)",
        )
    return text


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach that address."""
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to wherever it points."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _open(url: str, token: str | None) -> IO[bytes]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy's loopback is not ours
    answer: IO[bytes] = urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S)
    return answer


def _ask(address: str, token: str | None) -> int:
    """The HTTP status with which the head tells its version."""
    try:
        with _open(f"{address}/api/version", token):
            return 200
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise ClusterError(
            f"no Ray head answers at {address}: {reason}",
            hint="Is the cluster up, and is this the port of its dashboard?",
        ) from error


async def _next(pieces: AsyncIterator[str]) -> str:
    return await anext(pieces)


def _gist(text: str) -> str:
    """The last line of a remote traceback says what happened."""
    lines = [line.strip() for line in text.replace("\\n", "\n").splitlines() if line.strip(" \"'.,")]
    return lines[-1][:300] if lines else "no reason given"
