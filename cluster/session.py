"""Ray sessions: an embedded one-machine cluster that dies with its process, or the cluster we are a job of.

Token authentication is on in both. Ray reads its authentication settings once, when it is first imported,
which is why everything here sets the environment first and imports Ray last.
"""

import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.environment import environment
from cluster.errors import ClusterError
from cluster.marker import VARIABLE, Leftover, kill_leftovers, leftover_processes, wait_until_gone
from cluster.token import ensure_token
from cluster.watchdog import Watchdog

__all__ = ["Leftover", "Session", "kill_leftovers", "leftover_processes", "open_session", "wait_until_gone"]

OBJECT_STORE_BYTES = 200_000_000
MINIMUM_CPUS = 2  # logical: two training workers always fit, on one core they take turns


@dataclass(frozen=True)
class Session:
    """An open connection of this process to a Ray cluster."""

    address: str  # host:port of the head's control service
    embedded: bool
    capacity: Mapping[str, float] = field(default_factory=dict)  # what the cluster has now: {"CPU": n, "GPU": n}
    marker: str = ""  # EQUI_SESSION of every process of an embedded session
    folder: Path | None = None  # scratch of an embedded session, gone with it however it ends

    def __str__(self) -> str:
        where = "this machine" if self.embedded else self.address
        return f"{where} ({self.capacity.get('CPU', 0):g} CPU, {self.capacity.get('GPU', 0):g} GPU)"


@contextlib.contextmanager
def open_session(
    address: str | None = None, *, home: Path, cpus: int | None = None, gpus: int | None = None
) -> Iterator[Session]:
    """A session on `address` ("auto": the cluster this process is a job of; or host:port), embedded if None.

    home: folder of the embedded session's token file (made if absent). cpus, gpus: logical capacity of an
    embedded session; default the machine's cores, at least 2, and the GPUs Ray finds.
    Raises ClusterError if the cluster cannot be reached or refuses the token.
    """
    if address is None:
        with _embedded(home, cpus, gpus) as session:
            yield session
    else:
        with _joined(address) as session:
            yield session


@contextlib.contextmanager
def _embedded(home: Path, cpus: int | None, gpus: int | None) -> Iterator[Session]:
    if cpus is not None and cpus < 1:
        raise ClusterError(f"an embedded cluster of {cpus} CPUs", allowed="1 or more")
    token = ensure_token(home.expanduser().resolve() / "ray.token")
    marker = secrets.token_hex(8)
    # Short on purpose: Ray puts unix sockets about 60 characters below it and the limit is 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="equi-"))
    # Ray opens its folder to everybody (mode 0777); inside ours, which is 0700, nobody else comes as far as that.
    rays, scratch = folder / "ray", folder / "tmp"
    scratch.mkdir()
    watchdog = Watchdog(marker, folder)
    try:
        with environment(
            {
                VARIABLE: marker,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "RAY_AUTH_TOKEN": None,  # would win over the file
                "RAY_ADDRESS": None,  # would turn a new cluster into a connection to that one
                # Ray's setproctitle writes over /proc/<pid>/environ, where the marker is read; this keeps it.
                "SPT_NOENV": "1",
                # A killed worker tidies nothing up: its temporary files go with the session's folder.
                "TMPDIR": str(scratch),
            }
        ):
            yield from _connected(
                marker,
                folder,
                num_cpus=cpus or max(MINIMUM_CPUS, os.cpu_count() or 1),
                num_gpus=gpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                # A worker's failure comes back with its traceback; the rest of what it prints is Ray's own chatter.
                log_to_driver=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(rays),
            )
    finally:
        watchdog.close()


@contextlib.contextmanager
def _joined(address: str) -> Iterator[Session]:
    with environment({"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}):
        yield from _connected("", None, address=address)


def _connected(marker: str, folder: Path | None, **options: Any) -> Iterator[Session]:
    """ray.init(options), the session, ray.shutdown(); inside, the environment is as the caller set it."""
    with environment(
        {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default; unset, every start warns
        }
    ):
        import ray
        from ray import _raylet

        # Somebody may have imported Ray before us: read the environment again. (Cython, unseen by mypy.)
        _raylet.Config.initialize("")  # type: ignore[attr-defined]
        # An earlier session of this process may have had another token, which Ray keeps.
        _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]
        try:
            context = ray.init(configure_logging=True, logging_level=logging.WARNING, **options)
        except Exception as error:  # Ray raises bare Exception too, for a node that is not up after 30 s
            hint = "Is the head up, and is RAY_AUTH_TOKEN_PATH the token it was started with?"
            if "address" not in options:
                hint = "A node must be up within 30 s: is this machine very busy, or short of memory?"
            place = options.get("address", "this machine")
            raise ClusterError(f"no Ray session on {place}: {_first_line(error)}", hint=hint) from error
        try:
            yield Session(
                address=str(context.address_info["address"]),
                embedded="address" not in options,
                capacity={
                    name: float(amount)
                    for name, amount in ray.cluster_resources().items()
                    if name in ("CPU", "GPU", "memory")
                },
                marker=marker,
                folder=folder,
            )
        finally:
            ray.shutdown()


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
