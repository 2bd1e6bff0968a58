"""Bearer tokens. Only their SHA-256 is kept in memory; comparison takes the same time wherever two tokens
differ.

Ray's own token does not cover the HTTP port of Ray Serve (reference/serving.md, section 7), so the endpoint
guards itself.
"""

import hashlib
import hmac
import stat
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.errors import UserError
from serve.rejection import RejectedError

# They describe the interface and say whether it is up; they carry no data and take no work from the model.
OPEN_PATHS = frozenset({"/healthz", "/openapi.json", "/docs"})
SHORTEST = 16  # characters; `openssl rand -hex 32` gives 64


class Tokens:
    """The tokens that are accepted, as digests."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = tuple(_digest(token) for token in tokens)

    def accepts(self, token: str) -> bool:
        """Whether this is one of them. Every digest is compared, so the time tells nothing about which."""
        offered = _digest(token)
        found = False
        for digest in self._digests:
            found |= hmac.compare_digest(offered, digest)
        return found

    def __repr__(self) -> str:
        return f"Tokens({len(self._digests)})"


def read_tokens(path: Path) -> list[str]:
    """The tokens in a file: one per line; empty lines and lines that start with '#' are skipped.

    Raises UserError if the file is missing, readable by other users, empty, or holds a token that is too
    short.
    """
    path = path.expanduser()
    hint = f"make one: (umask 077; openssl rand -hex 32 > {path})"
    try:
        mode = path.stat().st_mode
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UserError(f"the token file {path} cannot be read: {error.strerror}", hint=hint) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"the token file {path} can be read by other users", hint=f"chmod 600 {path}")
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise UserError(f"the token file {path} holds no token", hint=hint)
    if any(len(token) < SHORTEST for token in tokens):
        raise UserError(f"the token file {path} holds a token of fewer than {SHORTEST} characters", hint=hint)
    return tokens


class BearerAuth:
    """ASGI middleware: 401 for every path but the open ones unless the bearer token is accepted."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self.app, self.tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, or answer."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and _path(scope) in OPEN_PATHS):
            await self.app(scope, receive, send)
            return
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.tokens.accepts(token.strip()):
            await self.app(scope, receive, send)
            return
        message = "the token is not accepted" if token else "a token is needed: Authorization: Bearer TOKEN"
        refusal = RejectedError(401, "unauthorised", message)
        await JSONResponse(refusal.body(), refusal.status, refusal.headers())(scope, receive, send)


def _path(scope: Scope) -> str:
    """The path below the prefix of the endpoint, which Ray Serve hands over as `root_path`."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
