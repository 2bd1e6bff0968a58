"""Who gets in, and that no token is kept."""

import gc
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.errors import UserError
from serve.auth import Tokens, read_tokens

BODY = {"structures": [{"numbers": [6], "positions": [[0.0, 0.0, 0.0]]}]}


def asking(path: str, header: str | None) -> Any:
    async def session(client: httpx.AsyncClient) -> httpx.Response:
        headers = {} if header is None else {"Authorization": header}
        if path.startswith("/v1/e"):
            return await client.post(path, json=BODY, headers=headers)
        return await client.get(path, headers=headers)

    return session


def token_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong-token-of-some-length", "Basic a-token-of-some-length"]
)
@pytest.mark.parametrize("path", ["/v1/energy_forces", "/v1/model", "/v1/nothing", "/docs/"])
def test_without_an_accepted_token_nothing_is_answered(
    ask: Any, spring: Any, token: str, path: str, header: str | None
) -> None:
    answer = ask(spring, asking(path, header), tokens=[token])
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "unauthorised"
    assert spring.batches == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_it_is(ask: Any, spring: Any, token: str, scheme: str) -> None:
    answer = ask(spring, asking("/v1/energy_forces", f"{scheme} {token}"), tokens=["another-long-token", token])
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json"])
@pytest.mark.parametrize("prefix", ["", "/ethanol"])
def test_health_and_documents_are_open_under_any_prefix(
    ask: Any, spring: Any, token: str, path: str, prefix: str
) -> None:
    assert ask(spring, asking(prefix + path, None), tokens=[token], root_path=prefix).status_code == 200


def test_a_prefix_opens_no_other_path(ask: Any, spring: Any, token: str) -> None:
    assert ask(spring, asking("/x/healthz", None), tokens=[token], root_path="/ethanol").status_code == 401
    assert ask(spring, asking("/v1/model", None), tokens=[token], root_path="/ethanol").status_code == 401


def test_only_digests_stay_in_memory() -> None:
    secret = "x".join(["very", "secret", "token", "text"])
    tokens = Tokens([secret])
    assert tokens.accepts(secret)
    assert secret not in repr(tokens)
    held = [item for item in gc.get_referents(tokens, tokens.__dict__) if isinstance(item, str | bytes | tuple)]
    assert all(secret not in str(item) for item in held)


def test_a_token_file_has_one_token_a_line_and_comments(tmp_path: Path) -> None:
    path = token_file(tmp_path, "# alice\naaaaaaaaaaaaaaaaaaaa\n\n  bbbbbbbbbbbbbbbbbbbb \n")
    assert read_tokens(path) == ["a" * 20, "b" * 20]


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("a" * 20, 0o644, "other users"),
        ("# nothing\n", 0o600, "no token"),
        ("short\n", 0o600, "fewer than 16"),
    ],
)
def test_a_token_file_that_guards_nothing_is_refused(tmp_path: Path, text: str, mode: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_tokens(token_file(tmp_path, text, mode))


def test_a_missing_token_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="openssl rand"):
        read_tokens(tmp_path / "absent")
