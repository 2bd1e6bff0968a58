"""Sending a dashboard to a Grafana server. The only file that knows grafana-api.

Tried against a double of Grafana's HTTP API, not against a Grafana server.
"""

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import requests
from grafana_api.grafana_api import GrafanaException
from grafana_api.grafana_face import GrafanaFace

from cluster.errors import UserError

Action = Literal["created", "changed", "unchanged"]

SERVERS_OWN = ("id", "version")  # of a dashboard: given by the server, no part of what we say
MESSAGE = "equi dashboards push"
TIMEOUT_S = 10.0
NOT_GRAFANA = "Is the address that of a Grafana server, with the path it is served under?"


class GrafanaError(UserError):
    """The Grafana server cannot be reached, refuses the token, or refuses the dashboard."""


@dataclass(frozen=True)
class Pushed:
    """What was done, or would have been done in a dry run: the action, and the change as a unified diff."""

    action: Action
    diff: str
    address: str  # of the dashboard, for a browser
    dry_run: bool


def push_dashboard(url: str, token: str, dashboard: Mapping[str, Any], *, dry_run: bool = False) -> Pushed:
    """Make the server's dashboard of this uid equal to `dashboard`. The same one again is not saved again.

    url: http(s)://host[:port][/path]. token: of a service account that may read and write dashboards.
    Raises GrafanaError, without the token in it; also if somebody else saved the dashboard between look and save.
    """
    server = _Server(url, token)
    uid = str(dashboard["uid"])
    found = server.find(uid)
    before = None if found is None else {name: value for name, value in found.items() if name not in SERVERS_OWN}
    action: Action = "created" if before is None else "unchanged" if before == dashboard else "changed"
    if action != "unchanged" and not dry_run:
        # The version we compared with, and no overwrite: if it is another one by now, the server refuses (412).
        own = dict.fromkeys(SERVERS_OWN) if found is None else {name: found.get(name) for name in SERVERS_OWN}
        server.save({**dashboard, **own})
    return Pushed(action, _diff(before, dashboard), f"{server.url}/d/{uid}", dry_run)


class _Server:
    """grafana-api's client of one server; every way in which a request can fail becomes a GrafanaError."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        parts = _parts(self.url)
        prefix = parts.path.strip("/")
        host = str(parts.hostname)
        self._face = GrafanaFace(
            auth=token,
            host=f"[{host}]" if ":" in host else host,
            port=parts.port,
            url_path_prefix=f"{prefix}/" if prefix else "",
            protocol=parts.scheme,
            timeout=TIMEOUT_S,
        )

    def find(self, uid: str) -> dict[str, Any] | None:
        """The dashboard as the server has it, None if it has none of that uid."""
        answer = self._ask(lambda: self._face.dashboard.get_dashboard(uid), absent=None)
        if answer is None:
            return None
        found = answer.get("dashboard") if isinstance(answer, dict) else None
        if not isinstance(found, dict):
            raise GrafanaError(f"{self.url} does not answer like Grafana", hint=NOT_GRAFANA)
        return found

    def save(self, dashboard: Mapping[str, Any]) -> None:
        """Send it; `version` is the one that it replaces."""
        body = {"dashboard": dashboard, "overwrite": False, "message": MESSAGE}
        self._ask(lambda: self._face.dashboard.update_dashboard(body))

    def _ask(self, request: Callable[[], Any], **otherwise: Any) -> Any:
        """The answer to a request; `absent` instead of a 404 that Grafana itself has sent."""
        try:
            return request()
        except GrafanaException as error:
            if error.status_code == 404 and isinstance(error.response, dict) and "absent" in otherwise:
                return otherwise["absent"]
            raise self._refused(error) from None
        except requests.exceptions.SSLError as error:
            raise GrafanaError(f"the certificate of {self.url} is not trusted: {_cause(error)}") from None
        except requests.exceptions.Timeout:
            raise GrafanaError(f"{self.url} did not answer within {TIMEOUT_S:g} s") from None
        except ValueError:  # requests' JSONDecodeError too: a page of HTML where JSON was expected
            raise GrafanaError(f"{self.url} does not answer like Grafana", hint=NOT_GRAFANA) from None
        except requests.exceptions.RequestException as error:
            raise GrafanaError(f"{self.url} cannot be reached: {_cause(error)}") from None

    def _refused(self, error: GrafanaException) -> GrafanaError:
        reason = error.response.get("message") if isinstance(error.response, dict) else None
        said = f": {reason}" if reason else ""
        if error.status_code == 401:
            return GrafanaError(
                f"{self.url} refuses the token (401{said})",
                hint="--token-file names a file with the token of a Grafana service account.",
            )
        if error.status_code == 403:
            return GrafanaError(
                f"the token may not do this on {self.url} (403{said})",
                allowed="a service account with the role Editor, or with dashboards:read, :write and :create",
            )
        if error.status_code == 412:
            return GrafanaError(
                f"somebody else saved the dashboard on {self.url} meanwhile (412{said})",
                hint="Nothing was changed. Look with --dry-run, then push again.",
            )
        if error.status_code == 404:
            return GrafanaError(f"{self.url} does not answer like Grafana (404{said})", hint=NOT_GRAFANA)
        return GrafanaError(f"{self.url} answers with an error ({error.status_code}{said})")


def _parts(url: str) -> SplitResult:
    """The parts of the address. Raises GrafanaError for one that is none, or that carries a password."""
    allowed = "http(s)://host[:port][/path]"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise GrafanaError(f"the address of Grafana is wrong: {error}", allowed=allowed) from None
    if parts.username is not None or parts.password is not None:
        raise GrafanaError(
            "the address of Grafana contains a user or a password", allowed=f"{allowed} and --token-file"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise GrafanaError(f"{url!r} is not the address of a Grafana server", allowed=allowed)
    return parts


def _diff(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> str:
    """Unified diff of the two as sorted JSON; "" where they are equal."""
    old = [] if before is None else _lines(before)
    return "\n".join(difflib.unified_diff(old, _lines(after), "server", "rendered", lineterm="", n=2))


def _lines(value: Mapping[str, Any]) -> list[str]:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def _cause(error: BaseException) -> str:
    """The innermost reason: `Connection refused` rather than the pool, the retries and the URL around it."""
    inner: BaseException = error
    while True:
        nested = getattr(inner, "reason", None) or next((a for a in inner.args if isinstance(a, BaseException)), None)
        following = nested or inner.__cause__ or inner.__context__
        if not isinstance(following, BaseException):
            break
        inner = following
    return (inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)) or type(inner).__name__
