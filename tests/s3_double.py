"""An S3 server for tests, in a process of its own: moto behind a layer that makes it fail on demand.

Prints its address, and ends when its standard input closes: a test run that is killed leaves no server.
PUT /_faults with a JSON list of {method, path, kind, times, keep} sets what fails next, GET says what is
left of it; kinds: "503",
"truncate" (body shorter than announced), "lost" (the write is applied, the answer is not sent).
"""

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

SLOW_DOWN = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>slow</Message></Error>'
Start = Callable[..., Any]


class Faults:
    """A WSGI application around moto that breaks the requests its rules name, as often as they say."""

    def __init__(self, application: Any) -> None:
        self.application, self.rules, self.lock = application, [], threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_faults":
            with self.lock:
                if environ["REQUEST_METHOD"] == "PUT":
                    self.rules = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                body = json.dumps(self.rules).encode()
            start("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        rule = self.take(environ)
        if rule is None:
            return self.application(environ, start)
        if rule["kind"] == "503":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [SLOW_DOWN]
        answer: dict[str, Any] = {}

        def keep(status: str, headers: list[tuple[str, str]], info: Any = None) -> None:
            answer.update(status=status, headers=headers)

        body = b"".join(self.application(environ, keep))
        if rule["kind"] == "truncate":
            start(answer["status"], answer["headers"])
            return [body[: int(len(body) * rule.get("keep", 0.5))]]
        connection = environ["werkzeug.socket"]
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        start("500 Lost", [])
        return []

    def take(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        """The rule that this request meets, counted down."""
        url = environ["PATH_INFO"] + "?" + environ.get("QUERY_STRING", "")
        with self.lock:
            for rule in self.rules:
                meets = rule["method"] == environ["REQUEST_METHOD"] and re.search(rule["path"], url)
                if meets and rule.get("times", 1) > 0:
                    rule["times"] = rule.get("times", 1) - 1
                    return rule
        return None


class QuietHandler(MotoRequestHandler):
    """moto's handler without a line for each request."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 (werkzeug's name)
        return None


def main() -> None:
    application = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietHandler)
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
