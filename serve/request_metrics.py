"""Counts and times requests for Prometheus, through the one table of metrics."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.metrics import Meter


class RequestMetrics:
    """ASGI middleware around everything else: refusals count too. Probes do not, they would drown the rest."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self.app, self.meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at the clock and the status."""
        if scope["type"] != "http" or str(scope["path"]).endswith("/healthz"):
            await self.app(scope, receive, send)
            return
        status, started = 500, time.monotonic()

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, seen)
        finally:
            self.meter.add("equi_requests", status=str(status))
            self.meter.observe("equi_request_seconds", time.monotonic() - started)
