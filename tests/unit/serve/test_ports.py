"""A port in use is found out before anything is started."""

import socket

import pytest

from cluster.errors import ClusterError
from serve.ports import claim, url_of


def test_port_zero_is_any_free_port_and_it_can_be_listened_on() -> None:
    port = claim("127.0.0.1", 0)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert claim("127.0.0.1", 0) != port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_refused(host: str) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, 0))
        server.listen()
        with pytest.raises(ClusterError, match="is in use by another process; nothing was deployed"):
            claim("127.0.0.1", server.getsockname()[1])


def test_a_port_just_closed_is_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()  # closed on this side first: the port now waits in TIME_WAIT
    assert claim("127.0.0.1", port) == port


def test_a_host_that_is_not_here_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"cannot listen on 203\.0\.113\.1"):
        claim("203.0.113.1", 0)


@pytest.mark.parametrize(
    ("host", "prefix", "url"),
    [
        ("127.0.0.1", "/", "http://127.0.0.1:80"),
        ("::1", "/", "http://[::1]:80"),
        ("a", "/b/c", "http://a:80/b/c"),
    ],
)
def test_a_url_has_no_slash_at_its_end(host: str, prefix: str, url: str) -> None:
    assert url_of(host, 80, prefix) == url
