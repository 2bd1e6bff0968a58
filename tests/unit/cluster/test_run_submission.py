"""Where a driver is started and what goes with it; what never does. Heads are small HTTP servers here."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.head import Head, checked_address, has_fixed_nodes, is_loopback
from cluster.marker import VARIABLE, kill_leftovers, leftover_processes, wait_until_gone
from cluster.runs import Where, create_run, load_run, update_run
from cluster.store import open_store
from cluster.submission import entrypoint, passed_on, staged_sources, start_here, warning_about, where_on
from cluster.token import ensure_token, read_token
from cluster.watchdog import Watchdog

TOKEN = "t0ken-of-this-test"


@contextlib.contextmanager
def serving(answers) -> Iterator[str]:
    """An HTTP server; answers(path, authorization) -> (status, headers, body)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def guarded(path, authorization):
    """As a Ray head with token authentication answers."""
    if authorization is None:
        return 401, {}, b"Unauthorized"
    return (200 if authorization == f"Bearer {TOKEN}" else 403), {}, b"{}"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def test_a_token_file_is_made_once_for_its_owner_alone(tmp_path):
    path = ensure_token(tmp_path / "home" / "ray.token")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_token(path)) == 64
    assert ensure_token(path).read_text() == path.read_text()


@pytest.mark.parametrize("content", ["", " \n", "two words", "two\nlines"])
def test_a_file_without_a_token_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ClusterError, match="holds no token"):
        read_token(path)


def test_a_token_others_can_read_is_refused_and_never_shown(token_file):
    token_file.chmod(0o644)
    with pytest.raises(ClusterError, match="open to other users") as error:
        read_token(token_file)
    assert TOKEN not in str(error.value)


def test_a_missing_token_file_is_a_clear_error(tmp_path):
    with pytest.raises(ClusterError, match="cannot be read: No such file"):
        read_token(tmp_path / "nothing")


def test_a_head_is_reached_with_its_token(token_file):
    with serving(guarded) as address:
        assert repr(Head.reach(address + "/", token_file)) == f"Head({address})"


def test_a_head_that_wants_a_token_says_so(token_file):
    with serving(guarded) as address, pytest.raises(ClusterError, match="wants a token"):
        Head.reach(address, None)


def test_a_wrong_token_is_refused_and_neither_token_is_shown(tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("something-else")
    wrong.chmod(0o600)
    with serving(guarded) as address, pytest.raises(ClusterError, match="refuses the token") as error:
        Head.reach(address, wrong)
    assert "something-else" not in str(error.value)
    assert error.value.exit_code == 2


def test_nobody_at_the_address_is_a_clear_error(token_file):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        with pytest.raises(ClusterError, match="no Ray head answers at"):
            Head.reach(f"http://127.0.0.1:{reserved.getsockname()[1]}", token_file)


def test_something_that_is_no_head_is_refused(token_file):
    with serving(lambda path, authorization: (404, {}, b"")) as address, pytest.raises(ClusterError, match="404"):
        Head.reach(address, token_file)


def test_an_open_head_is_refused_unless_only_this_machine_can_reach_it(monkeypatch):
    with serving(lambda path, authorization: (200, {}, b"{}")) as address:
        assert Head.reach(address, None).address == address
        monkeypatch.setattr("cluster.head.is_loopback", lambda url: False)
        with pytest.raises(ClusterError, match="answers without a token"):
            Head.reach(address, None)


def test_a_redirect_does_not_carry_the_token_away(token_file):
    seen = []

    def thief(path, authorization):
        seen.append(authorization)
        return 200, {}, b"{}"

    with serving(thief) as elsewhere:

        def redirecting(path, authorization):
            return (401, {}, b"") if authorization is None else (302, {"Location": f"{elsewhere}/api/version"}, b"")

        with serving(redirecting) as address, pytest.raises(ClusterError, match="302"):
            Head.reach(address, token_file)
    assert seen == []


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:8265",
        "http://host",
        "ray://host:10001",
        "http://host:x",
        "http://host:1/path",
        "http://u:p@host:1",
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ClusterError, match="is no address of a Ray head"):
        checked_address(address)


def test_loopback_is_recognised_by_address_and_not_by_the_look_of_a_name():
    assert [is_loopback(f"http://{host}:1") for host in ("127.0.0.1", "localhost", "[::1]", "127.9.9.9")] == [True] * 4
    assert [is_loopback(f"http://{host}:1") for host in ("127.0.0.1.example.org", "10.0.0.1", "0.0.0.0")] == [False] * 3


def test_a_head_without_autoscaler_is_told_from_one_that_grows():
    assert has_fixed_nodes({"nodeTypeMapping": {"1b20": "node_1b20"}})
    assert not has_fixed_nodes({"nodeTypeMapping": {"1b20": "ray.head.default"}})
    assert not has_fixed_nodes({"nodeTypeMapping": {"1b20": "node_1b20", "77": "cpu2"}})
    assert not has_fixed_nodes({})


def test_capacity_is_the_sum_over_the_nodes_that_live(token_file):
    nodes = [{"state": "ALIVE", "resources_total": {"CPU": 2.0, "GPU": 1}}, {"state": "ALIVE", "resources_total": None}]
    nodes.append({"state": "DEAD", "resources_total": {"CPU": 64}})

    def head(path, authorization):
        if path.startswith("/api/v0/nodes"):
            return 200, {}, json.dumps({"data": {"result": {"result": nodes}}}).encode()
        report = {"nodeTypeMapping": {"1b": "node_1b"}}
        return 200, {}, json.dumps({"data": {"clusterStatus": {"autoscalerReport": report}}}).encode()

    with serving(head) as address:
        assert Head.reach(address, None).capacity() == {"CPU": 2.0, "GPU": 1.0}


def test_a_job_gets_our_settings_and_the_place_of_the_store_and_no_secret():
    environment = {
        "EQUI_STORE": "s3://b", "EQUI_TOKEN_FILE": "/t", "EQUI_SESSION": "m", "EQUI_API_KEY": "k",
        "AWS_ENDPOINT_URL": "http://s3", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ACCESS_KEY_ID": "i",
        "AWS_SESSION_TOKEN": "x", "RAY_AUTH_TOKEN": "y", "RAY_AUTH_TOKEN_PATH": "z", "HOME": "/h",
    }  # fmt: skip
    assert passed_on(environment) == {"EQUI_STORE": "s3://b", "AWS_ENDPOINT_URL": "http://s3"}


def test_a_job_takes_the_four_packages_along_and_nothing_else():
    with staged_sources() as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["cluster", "equimodels", "jobs", "serve"]
        assert (folder / "cluster" / "driver.py").is_file()
        assert not list(folder.rglob("__pycache__"))
        assert sum(path.stat().st_size for path in folder.rglob("*")) < 20e6
    assert not folder.exists()


def test_every_attempt_on_a_cluster_is_a_job_of_its_own(store):
    head = Head("http://10.0.0.1:8265", None)
    assert where_on(head, "r1", 2) == Where(mode="cluster", address=head.address, submission_id="r1-2")
    record = create_run(store, kind="train", name="x", spec="", run_id="r1")
    assert entrypoint(head, store, record).startswith("python -m cluster.driver --store file:///")
    assert entrypoint(Head("http://127.0.0.1:1", None), store, record).startswith(sys.executable)


def test_a_folder_of_this_machine_is_warned_about_when_the_cluster_is_elsewhere(store):
    assert "mounted" in (warning_about(store, Head("http://10.0.0.1:8265", None)) or "")
    assert warning_about(store, Head("http://127.0.0.1:8265", None)) is None
    assert warning_about(open_store("s3://bucket/x"), Head("http://10.0.0.1:8265", None)) is None


def test_a_driver_started_here_is_a_process_of_its_own_whose_pid_the_record_knows(store, tmp_path, monkeypatch):
    record = create_run(store, kind="train", name="x", spec="", run_id="r1", code_version="1.2.3")
    fake = tmp_path / "python"  # instead of the interpreter: says what it was started with
    fake.write_text('#!/bin/sh\necho "$@"; echo "$EQUI_CODE_VERSION"; exec sleep 30\n')
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    started = start_here(store, record, home=tmp_path / "home", cpus=3)
    pid = started.where.pid
    try:
        assert os.getsid(pid) == pid
        assert load_run(store, "r1").where == started.where
        log = Path(started.where.log)
        deadline = time.monotonic() + 10
        while "1.2.3" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert f"-m cluster.driver --store {store.uri} --run r1" in log.read_text()
        assert "--cpus 3" in log.read_text()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_driver_that_was_faster_than_its_starter_keeps_its_own_account(store, tmp_path, monkeypatch):
    record = create_run(store, kind="train", name="x", spec="", run_id="r1")
    update_run(store, "r1", where=Where(pid=1, host="there"))
    monkeypatch.setattr(sys, "executable", "/bin/true")
    assert start_here(store, record, home=tmp_path).where.host == "there"
    os.wait()


def sleeper(marker):
    environment = {**os.environ, VARIABLE: marker}
    return subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True)


def test_processes_are_found_and_killed_by_their_marker_alone():
    with sleeper("this-one") as ours, sleeper("this-one-not") as other:
        try:
            assert wait_for(lambda: [left.pid for left in leftover_processes("this-one")] == [ours.pid])
            assert kill_leftovers("this-one") == []
            assert ours.wait(5) == -9
            assert other.poll() is None
            assert wait_until_gone("this-one-not", 0.2)[0].command == "sleep 60"
        finally:
            ours.kill()
            other.kill()


def test_the_watchdog_ends_what_carries_the_marker_when_it_is_told(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    with sleeper("watched") as process:
        Watchdog("watched", folder).close()
        assert process.wait(5) == -9
    assert not folder.exists()


def test_the_watchdog_ends_what_carries_the_marker_when_its_parent_is_killed(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    script = f"from cluster.watchdog import Watchdog; from pathlib import Path; import os, signal; \
        dog = Watchdog('orphaned', Path({str(folder)!r})); os.kill(os.getpid(), signal.SIGKILL)"
    with sleeper("orphaned") as process:
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
        assert process.wait(10) == -9
    assert wait_for(lambda: not folder.exists())


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()
