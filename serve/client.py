"""A small synchronous client of an endpoint.

Every request is a pure function of its body, so it may be sent again: a replica that dies costs a retry, not an error
(reference/serving.md, section 6).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from cluster.errors import ClusterError, UserError
from serve.auth import read_tokens

LONGEST_PAUSE_S = 1.0
TRANSIENT = frozenset({502, 503})


class RefusedError(UserError):
    """The endpoint refused a request; `status` and `code` as the endpoint gave them."""

    def __init__(self, status: int, code: str, message: str, where: Sequence[str | int] = ()) -> None:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
        super().__init__(f"{place}: {message}" if place else message)
        self.status, self.code, self.where = status, code, tuple(where)


class _UnreachableError(ClusterError):
    """No connection: the one failure on this side that another try may mend."""


class EndpointClient:
    """Talks to one endpoint. Use as a context manager, or call `close`."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """url: as `equi endpoints` shows it. retries: after the first attempt, 0.1 s to 1 s apart."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url, self._retries, self._sleep = url.rstrip("/"), retries, sleep
        try:
            # trust_env off: a proxy of the environment must not see tokens meant for a loopback port.
            self._http = httpx.Client(
                base_url=self.url, headers=headers, timeout=timeout_s, transport=transport, trust_env=False
            )
        except httpx.InvalidURL as error:
            raise UserError(f"{url!r} is no URL: {error}", allowed="http://host:port or https://host:port") from error

    def energy_forces(self, structures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """structures: [{"numbers": [n], "positions": [n][3] angstrom}]. Returns {"model", "units", "results":
        [{"energy": eV, "forces": [n][3] eV/angstrom}]}."""
        return self._json("POST", "/v1/energy_forces", {"structures": list(structures)})

    def embed(self, images: Sequence[Any], *, space: str | None = None) -> dict[str, Any]:
        """images: nested lists. space: refuse an answer from another one. Returns {"model", "space", "dim",
        "normalised", "embeddings"}."""
        body: dict[str, Any] = {"images": list(images)}
        if space is not None:
            body["space"] = space
        return self._json("POST", "/v1/embed", body)

    def model(self) -> dict[str, Any]:
        """What is served, and its limits."""
        return self._json("GET", "/v1/model")

    def health(self) -> dict[str, Any]:
        """{"status": "ok", "model"}. Raises RefusedError (503) if the endpoint is not alive."""
        return self._json("GET", "/healthz")

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """Any body to any path, for `equi query --body`."""
        return self._json("POST", path, body)

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self._send(method, path, body)
        if answer.is_success:
            try:
                document: dict[str, Any] = answer.json()
            except ValueError as error:
                raise ClusterError(f"{self.url} answered something that is not JSON; is it an endpoint?") from error
            return document
        raise self._refusal(answer)

    def _send(self, method: str, path: str, body: Any) -> httpx.Response:
        for attempt in range(self._retries):
            try:
                answer = self._once(method, path, body)
            except _UnreachableError:
                pass
            else:
                if not _worth_another_try(answer):
                    return answer
            self._sleep(min(LONGEST_PAUSE_S, 0.1 * 2**attempt))
        return self._once(method, path, body)

    def _once(self, method: str, path: str, body: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx.TimeoutException as error:
            raise ClusterError(f"{self.url} did not answer in time ({type(error).__name__})") from error
        except httpx.UnsupportedProtocol as error:
            raise UserError(f"{self.url!r} is no URL", allowed="http://host:port or https://host:port") from error
        except httpx.TransportError as error:
            raise _UnreachableError(
                f"{self.url} cannot be reached: {error}", hint="Is it up? `equi endpoints` asks each of them."
            ) from error
        except ValueError as error:  # NaN in the body: JSON has no word for it
            raise UserError(f"the request cannot be written as JSON: {error}") from error

    def _refusal(self, answer: httpx.Response) -> UserError:
        error = _error_of(answer)
        if answer.status_code == 401:
            given = "authorization" in answer.request.headers
            return RefusedError(401, "unauthorised", f"{self.url} {'refuses the token' if given else 'needs a token'}")
        if error is None:
            return ClusterError(f"{self.url} answered {answer.status_code}: {answer.text[:200].strip()}")
        return RefusedError(answer.status_code, error["code"], error["message"], error["where"])


def first_token(path: str | Path) -> str:
    """The first token of a token file. Raises UserError."""
    return read_tokens(Path(path))[0]


def _worth_another_try(answer: httpx.Response) -> bool:
    # A replica that dies under a request makes Ray Serve's proxy answer 500 in words of its own; a 500 of ours says
    # that the model failed on this item, and would again.
    return answer.status_code in TRANSIENT or (answer.status_code == 500 and _error_of(answer) is None)


def _error_of(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        error = answer.json()["error"]
        return {"code": str(error["code"]), "message": str(error["message"]), "where": list(error["where"])}
    except (ValueError, KeyError, TypeError):
        return None
