"""What the client tries again, what it does not, and what it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.errors import ClusterError, UserError
from serve.client import EndpointClient, RefusedError, first_token
from serve.ports import claim

Answers = list[httpx.Response | Exception]


class Script:
    """A server that gives these answers in turn, and remembers the requests."""

    def __init__(self, answers: Answers) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options: Any) -> EndpointClient:
        options = {"token": "secret-of-the-endpoint", **options}
        return EndpointClient(
            "http://endpoint:1", transport=httpx.MockTransport(self), sleep=self.pauses.append, **options
        )


def refusal(status: int, code: str = "busy") -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": "no", "where": ["structures", 2]}})


GOOD = {"status": "ok", "model": "m@1"}


@pytest.mark.parametrize(
    "stumble",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.RemoteProtocolError("the replica died"),
        lambda: refusal(503),
        lambda: httpx.Response(502, text="bad gateway"),
        lambda: httpx.Response(500, text="Internal Server Error"),  # Ray Serve's own words: a replica died
    ],
)
def test_what_another_try_may_mend_is_tried_again(stumble: Callable[[], Any]) -> None:
    script = Script([stumble(), stumble(), httpx.Response(200, json=GOOD)])
    with script.client() as client:
        assert client.health() == GOOD
    assert len(script.requests) == 3
    assert script.pauses == [0.1, 0.2]


@pytest.mark.parametrize(
    ("status", "code"), [(422, "invalid"), (413, "too_large"), (500, "model_failed"), (504, "timeout")]
)
def test_what_would_fail_again_is_not_tried_again(status: int, code: str) -> None:
    script = Script([refusal(status, code)])
    with script.client() as client, pytest.raises(RefusedError, match=r"structures\[2\]: no") as caught:
        client.energy_forces([])
    assert (caught.value.status, caught.value.code) == (status, code)


def test_it_gives_up_after_its_retries_and_pauses_no_longer_than_a_second() -> None:
    script = Script([httpx.ConnectError("refused")] * 7)
    with script.client(retries=6) as client, pytest.raises(ClusterError, match="cannot be reached"):
        client.health()
    assert script.pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_slow_endpoint_is_not_asked_twice() -> None:
    script = Script([httpx.ReadTimeout("slow")])
    with script.client() as client, pytest.raises(ClusterError, match="did not answer in time"):
        client.health()


@pytest.mark.parametrize(("token", "words"), [(None, "needs a token"), ("wrong", "refuses the token")])
def test_a_refused_token_is_told_without_showing_it(token: str | None, words: str) -> None:
    script = Script([refusal(401, "unauthorised")])
    with script.client(token=token) as client, pytest.raises(RefusedError, match=words) as caught:
        client.model()
    assert token is None or token not in str(caught.value)


def test_the_token_travels_in_the_header_only() -> None:
    script = Script([httpx.Response(200, json=GOOD)])
    with script.client() as client:
        client.health()
    assert script.requests[0].headers["Authorization"] == "Bearer secret-of-the-endpoint"
    assert "secret" not in str(script.requests[0].url)


def test_a_server_that_is_no_endpoint_is_recognised() -> None:
    with Script([httpx.Response(200, text="<html>")]).client() as client, pytest.raises(ClusterError, match="not JSON"):
        client.health()
    with (
        Script([httpx.Response(404, text="nginx")]).client() as client,
        pytest.raises(ClusterError, match="404: nginx"),
    ):
        client.health()


def test_nobody_at_the_port_is_a_clear_error() -> None:
    url = f"http://127.0.0.1:{claim('127.0.0.1', 0)}"
    with EndpointClient(url, retries=0) as client, pytest.raises(ClusterError, match="cannot be reached"):
        client.health()


@pytest.mark.parametrize("url", ["endpoint:8000/x", "ftp://endpoint"])
def test_something_that_is_no_url_is_a_clear_error(url: str) -> None:
    with EndpointClient(url, retries=0) as client, pytest.raises(UserError, match="is no URL"):
        client.health()


def test_a_request_that_json_cannot_hold_is_refused_here() -> None:
    script = Script([])
    with script.client() as client, pytest.raises(UserError, match="JSON"):
        client.energy_forces([{"numbers": [1], "positions": [[float("nan"), 0, 0]]}])


def test_the_first_token_of_a_file_is_used(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("# mine\nfirst-token-of-the-file\nsecond-token-of-the-file\n")
    path.chmod(0o600)
    assert first_token(path) == "first-token-of-the-file"
