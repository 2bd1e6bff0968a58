"""TCP ports: whether one can be listened on, said before anything is started."""

import errno
import socket

from cluster.errors import ClusterError


def claim(host: str, port: int) -> int:
    """The port to listen on: `port` if it is free, any free one for 0.

    It is let go again, so another process may be faster; Ray Serve then refuses to start.
    Raises ClusterError if the port is taken or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As a server does: connections that are closing do not count, a process that listens does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # Two sockets may bind one port with SO_REUSEADDR as long as neither listens.
            probe.listen(1)
        except OSError as error:
            raise ClusterError(_reason(host, port, error), allowed="a free port, or 0 for any") from error
        return int(probe.getsockname()[1])


def url_of(host: str, port: int, prefix: str = "/") -> str:
    """`http://host:port/prefix` without a slash at its end."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}{prefix.rstrip('/')}"


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another process; nothing was deployed"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs rights that this user does not have; nothing was deployed"
    return f"cannot listen on {host}, port {port}: {error.strerror}; nothing was deployed"
