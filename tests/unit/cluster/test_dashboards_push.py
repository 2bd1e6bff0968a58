"""Sending the dashboard, against a double of the part of Grafana's HTTP API that is used."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster import cli
from cluster.dashboards.push import GrafanaError, push_dashboard
from cluster.dashboards.render import render_dashboard

TOKEN = "glsa_right"


class GrafanaDouble(ThreadingHTTPServer):
    """Dashboards by uid, as Grafana keeps them: it gives ids and versions, and refuses a save over a newer one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.saves: list[dict[str, Any]] = []
        self.answer: tuple[int, str] | None = None  # instead of everything else
        self.before_save = lambda: None
        self.url = f"http://127.0.0.1:{self.server_port}"

    def get(self, uid: str) -> tuple[int, dict[str, Any]]:
        if uid not in self.dashboards:
            return 404, {"message": "Dashboard not found"}
        return 200, {"meta": {"slug": uid}, "dashboard": self.dashboards[uid]}

    def save(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.before_save()
        self.saves.append(body)
        dashboard = body["dashboard"]
        held = self.dashboards.get(dashboard["uid"])
        if held is not None and not body["overwrite"] and dashboard.get("version") != held["version"]:
            return 412, {"status": "version-mismatch", "message": "The dashboard has been changed by someone else"}
        version = 1 if held is None else held["version"] + 1
        self.dashboards[dashboard["uid"]] = {**dashboard, "id": 7, "version": version}
        return 200, {"status": "success", "uid": dashboard["uid"], "version": version}


class _Handler(BaseHTTPRequestHandler):
    server: GrafanaDouble
    protocol_version = "HTTP/1.0"  # one request a connection: no socket outlives the test

    def do_GET(self) -> None:
        self._respond(lambda: self.server.get(self.path.removeprefix("/api/dashboards/uid/")))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._respond(lambda: self.server.save(body))

    def _respond(self, handle: Any) -> None:
        if self.server.answer is not None:
            status, text = self.server.answer
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            status, text = 401, json.dumps({"message": "Invalid API key"})
        elif not self.path.startswith("/api/dashboards/"):
            status, text = 404, "<html>not found</html>"
        else:
            status, value = handle()
            text = json.dumps(value)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture
def grafana(monkeypatch: pytest.MonkeyPatch) -> Iterator[GrafanaDouble]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with GrafanaDouble() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN + "\n")
    return path


def equi(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return int(str(ended.value.code))


def test_a_new_dashboard_is_created_whole(grafana: GrafanaDouble) -> None:
    pushed = push_dashboard(grafana.url, TOKEN, render_dashboard())
    assert pushed.action == "created"
    assert pushed.address == f"{grafana.url}/d/equimodels"
    kept = grafana.dashboards["equimodels"]
    assert {name: value for name, value in kept.items() if name not in ("id", "version")} == render_dashboard()


def test_the_same_dashboard_is_not_saved_again(grafana: GrafanaDouble) -> None:
    push_dashboard(grafana.url, TOKEN, render_dashboard())
    assert push_dashboard(grafana.url, TOKEN, render_dashboard()).action == "unchanged"
    assert len(grafana.saves) == 1
    assert grafana.dashboards["equimodels"]["version"] == 1


def test_a_dashboard_that_differs_is_saved_and_the_difference_told(grafana: GrafanaDouble) -> None:
    push_dashboard(grafana.url, TOKEN, {**render_dashboard(), "title": "Old"})
    pushed = push_dashboard(grafana.url, TOKEN, render_dashboard())
    assert pushed.action == "changed"
    assert '-  "title": "Old",' in pushed.diff
    assert '+  "title": "Equimodels",' in pushed.diff
    assert grafana.dashboards["equimodels"]["version"] == 2
    assert grafana.dashboards["equimodels"]["title"] == "Equimodels"


def test_a_dry_run_shows_the_difference_and_saves_nothing(grafana: GrafanaDouble) -> None:
    pushed = push_dashboard(grafana.url, TOKEN, render_dashboard(), dry_run=True)
    assert (pushed.action, grafana.saves) == ("created", [])
    push_dashboard(grafana.url, TOKEN, {**render_dashboard(), "title": "Old"})
    pushed = push_dashboard(grafana.url, TOKEN, render_dashboard(), dry_run=True)
    assert pushed.action == "changed"
    assert '-  "title": "Old",' in pushed.diff
    assert grafana.dashboards["equimodels"]["title"] == "Old"


def test_a_save_by_someone_else_in_between_is_not_overwritten(grafana: GrafanaDouble) -> None:
    push_dashboard(grafana.url, TOKEN, {**render_dashboard(), "title": "Old"})

    def meanwhile() -> None:
        grafana.dashboards["equimodels"] |= {"title": "Theirs", "version": 9}

    grafana.before_save = meanwhile
    with pytest.raises(GrafanaError, match="somebody else saved"):
        push_dashboard(grafana.url, TOKEN, render_dashboard())
    assert grafana.dashboards["equimodels"]["title"] == "Theirs"


def test_a_wrong_token_is_refused_and_never_shown(grafana: GrafanaDouble) -> None:
    with pytest.raises(GrafanaError) as refused:
        push_dashboard(grafana.url, "glsa_wrong", render_dashboard())
    assert "refuses the token (401: Invalid API key)" in str(refused.value)
    assert "glsa_wrong" not in str(refused.value)


def test_a_token_without_the_right_to_write_is_told_which_right_is_missing(grafana: GrafanaDouble) -> None:
    grafana.answer = 403, json.dumps({"message": "Permission denied"})
    with pytest.raises(GrafanaError, match="403: Permission denied") as refused:
        push_dashboard(grafana.url, TOKEN, render_dashboard())
    assert "Editor" in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, "<html>log in</html>"), "does not answer like Grafana"),
        ((200, '["json", "of something else"]'), "does not answer like Grafana"),
        ((404, "<html>nginx</html>"), "does not answer like Grafana"),
        ((500, json.dumps({"message": "database is locked"})), "500: database is locked"),
        ((502, "<html>bad gateway</html>"), "error \\(502\\)"),
    ],
)
def test_whatever_else_answers_there_is_a_clear_error(
    grafana: GrafanaDouble, answer: tuple[int, str], words: str
) -> None:
    grafana.answer = answer
    with pytest.raises(GrafanaError, match=words):
        push_dashboard(grafana.url, TOKEN, render_dashboard())


def test_a_path_before_the_api_is_kept(grafana: GrafanaDouble) -> None:
    with pytest.raises(GrafanaError, match="does not answer like Grafana"):  # the double serves no such path
        push_dashboard(f"{grafana.url}/grafana/", TOKEN, render_dashboard())


def test_an_unreachable_server_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as silent:  # bound, so that nobody else takes the port, and never listening
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(GrafanaError, match=f"{url} cannot be reached: Connection refused"):
            push_dashboard(url, TOKEN, render_dashboard())


@pytest.mark.parametrize("url", ["grafana:3000", "ftp://grafana", "http://", "http://host:port", "http://h/?a=b"])
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(GrafanaError, match="address of"):
        push_dashboard(url, TOKEN, render_dashboard())


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(GrafanaError) as refused:
        push_dashboard("http://admin:hunter2@host", TOKEN, render_dashboard())
    assert "hunter2" not in str(refused.value)


def test_the_command_pushes_once(grafana: GrafanaDouble, token_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["dashboards", "push", "--url", grafana.url, "--token-file", str(token_file)]
    assert equi(*arguments, "--dry-run") == 0
    assert "would create" in capsys.readouterr().out
    assert equi(*arguments) == 0
    assert "created" in capsys.readouterr().out
    assert equi(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["action"] == "unchanged"
    assert len(grafana.saves) == 1


def test_the_command_ends_with_2_and_no_traceback_on_a_wrong_token(
    grafana: GrafanaDouble, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token_file.write_text("glsa_wrong")
    assert equi("dashboards", "push", "--url", grafana.url, "--token-file", str(token_file)) == 2
    told = capsys.readouterr()
    assert "refuses the token" in told.err
    assert "Traceback" not in told.err
    assert "glsa_wrong" not in told.err + told.out
