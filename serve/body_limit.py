"""Refuse a request body that is too large, before it is held in memory or parsed."""

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.rejection import RejectedError


class BodyLimit:
    """ASGI middleware: 413 once more than `max_bytes` have come, or are announced."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count while passing on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = RejectedError(
            413,
            "body_too_large",
            f"the request body is larger than {self.max_bytes / 1e6:g} MB, which is the limit",
        )
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self.max_bytes:
            await JSONResponse(refusal.body(), refusal.status)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                # FastAPI passes its own HTTPException through from the reading of a body; all else becomes a
                # 400.
                raise HTTPException(413, refusal.message)
            return message

        await self.app(scope, counted, send)
