"""An S3 server for tests, in a process of its own: moto behind a layer that makes it fail on demand.

Prints its address, and ends when its standard input closes: a test run that is killed leaves no server.

PUT /_faults with a JSON list of rules sets what fails next, GET says what is left of it. A rule is {method, path, kind,
times}: the next `times` (1) requests of that method (any) whose address matches the expression `path` (any) fail so:

    "503"       SlowDown, nothing is done
    "missing"   404, nothing is done
    "reset"     nothing is done and the connection is reset; with `keep`, after that part of the body was sent
    "delay"     nothing happens for `seconds`, then everything as usual
    "stall"     the part `keep` (.5) of the body, then nothing for `seconds`, then the rest
    "truncate"  the part `keep` (.5) of the body, less than was announced
    "short"     the same, but announced as such: only who knows the length can notice
    "flip"      one bit of the body changed, at the byte `at` (the middle; negative: from the end)
    "lost"      everything is done, and no answer is sent

GET /_requests is the list of [method, address, range] since the last PUT /_faults; range is that header, or empty.
"""

import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import FakeKey
from werkzeug.serving import make_server

ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>as the test asked for</Message></Error>'
REFUSED = {"503": ("503 Slow Down", "SlowDown"), "missing": ("404 Not Found", "NoSuchKey")}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER that a close turns into a reset
Start = Callable[..., Any]


class Faults:
    """A WSGI application around moto that breaks the requests its rules name, as often as they say."""

    def __init__(self, application: Any) -> None:
        self.moto, self.lock = application, threading.Lock()
        self.alone = threading.Lock()  # of conditional writes
        self.rules: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, str]] = []

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] in ("/_faults", "/_requests"):
            return self.asked(environ, start)
        rule = self.take(environ)
        if rule is None:
            return self.application(environ, start)
        kind = rule["kind"]
        if kind in REFUSED:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status, code = REFUSED[kind]
            body = ERROR.format(code).encode()
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        if kind == "delay":
            time.sleep(rule["seconds"])
            return self.application(environ, start)
        if kind == "reset" and "keep" not in rule:
            raise reset(environ)
        return self.spoilt(rule, environ, start)

    def application(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """What moto answers. It compares an etag and writes in two steps; S3 does both at once, and so does this."""
        if environ["REQUEST_METHOD"] == "PUT" and {"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"} & environ.keys():
            with self.alone:
                return self.moto(environ, start)
        return self.moto(environ, start)

    def asked(self, environ: dict[str, Any], start: Start) -> list[bytes]:
        """What tests ask the layer itself."""
        with self.lock:
            if environ["REQUEST_METHOD"] == "PUT":
                self.rules = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                self.requests = []
            body = json.dumps(self.rules if environ["PATH_INFO"] == "/_faults" else self.requests).encode()
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def spoilt(self, rule: dict[str, Any], environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """The answer of a request that was done, changed as the rule says."""
        kind, answer = rule["kind"], {}

        def keep(status: str, headers: list[tuple[str, str]], info: Any = None) -> None:
            answer.update(status=status, headers=headers)

        body = b"".join(self.application(environ, keep))
        kept = int(len(body) * rule.get("keep", 0.5))
        headers = answer["headers"]
        if kind == "flip":
            changed = bytearray(body)
            changed[rule.get("at", len(body) // 2)] ^= 1
            start(answer["status"], headers)
            return [bytes(changed)]
        if kind == "truncate":
            start(answer["status"], headers)
            return [body[:kept]]
        if kind == "short":
            others = [pair for pair in headers if pair[0].lower() != "content-length"]
            start(answer["status"], [*others, ("Content-Length", str(kept))])
            return [body[:kept]]
        if kind in ("stall", "reset"):
            start(answer["status"], headers)
            return self.halting(rule, environ, body[:kept], body[kept:])
        if kind != "lost":
            raise ValueError(f"no fault is called {kind!r}")
        connection = environ["werkzeug.socket"]
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        start("500 Lost", [])
        return []

    def halting(self, rule: dict[str, Any], environ: dict[str, Any], one: bytes, two: bytes) -> Iterator[bytes]:
        """A body that stops in the middle, for a while or for ever."""
        yield one
        if rule["kind"] == "reset":
            raise reset(environ)
        time.sleep(rule["seconds"])
        yield two

    def take(self, environ: dict[str, Any]) -> dict[str, Any] | None:
        """The rule that this request meets, counted down."""
        url = environ["PATH_INFO"] + "?" + environ.get("QUERY_STRING", "")
        method = environ["REQUEST_METHOD"]
        with self.lock:
            self.requests.append((method, url, environ.get("HTTP_RANGE", "")))
            for rule in self.rules:
                meets = rule.get("method", method) == method and re.search(rule.get("path", ""), url)
                if meets and rule.get("times", 1) > 0:
                    rule["times"] = rule.get("times", 1) - 1
                    return rule
        return None


def reset(environ: dict[str, Any]) -> ConnectionResetError:
    """Mark the connection so that its close is a reset; the error to raise, after which werkzeug closes it."""
    environ["werkzeug.socket"].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return ConnectionResetError("as the test asked for")


def read_once(key: type[FakeKey]) -> None:
    """Let moto keep an object's bytes: it reads and copies the whole object for every range of it.

    A range of an object of 64 MiB takes 50 ms, however short it is; S3 does not work so. Costs the memory of every
    object that was read.
    """
    usual = key.value

    def get(self: Any) -> bytes:
        if "whole" not in self.__dict__:
            self.__dict__["whole"] = usual.fget(self)
        return self.__dict__["whole"]

    def change(self: Any, value: bytes) -> None:
        self.__dict__.pop("whole", None)
        usual.fset(self, value)

    key.value = property(get, change)


class QuietHandler(MotoRequestHandler):
    """moto's handler without a line for each request."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 (werkzeug's name)
        return None


def main() -> None:
    read_once(FakeKey)
    application = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietHandler)
    usual = server.shutdown_request

    def shutdown_request(connection: Any) -> None:
        marked = connection.fileno() >= 0 and connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER)
        # The usual way says good-bye first, and then a close is no reset any more.
        (server.close_request if marked else usual)(connection)

    server.shutdown_request = shutdown_request
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
