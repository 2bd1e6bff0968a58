"""How Ray Train's workers become a process group of torch: each hears SIGTERM, then all meet at the first one's."""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig

from jobs.launch.board import Board
from jobs.launch.member import settle

JOIN_S = 300.0  # seconds for all processes to find each other
_STORES: list[Any] = []  # of this process: it must live as long as the group


@dataclass
class Meeting(BackendConfig):  # type: ignore[misc]
    """What Ray Train is told of the process group; no torch, for which the driver and the controller need not wait.

    board: its name. limit: seconds after which a rank that waits in a collective raises. grace: seconds from SIGTERM to
    a worker's end.
    """

    board: str
    limit: float = 600.0
    grace: float = 30.0
    gpu: bool = False

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train calls when its workers are there."""
        return _Settling


class _Settling(Backend):  # type: ignore[misc]
    """No shutdown: the processes end with their group, and one that hangs would only be waited for.

    Torch's own way of Ray Train listens on all interfaces of the first worker's node, and knows no group of two kinds.
    """

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Meeting) -> None:
        places = worker_group.get_worker_group_state().placement_group_handle.placement_group
        Board(backend_config.board).put("places", places.id.hex())
        size = len(worker_group)
        worker_group.execute(settle, backend_config.grace)  # in their main threads, where training is not
        waits = max(backend_config.limit, JOIN_S)
        place = worker_group.execute_single(0, open_meeting, size, waits)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, join, rank, size, place, backend_config.limit, backend_config.gpu
                )
                for rank in range(size)
            ]
        )


def open_meeting(size: int, waits: float) -> tuple[str, int]:
    """The place where all meet: on the address that Ray has of this node, and on no other. Returns address and port."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    here = ray.get_runtime_context().get_node_id()
    address = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == here)
    listener = socket.create_server((address, 0))
    port = int(listener.getsockname()[1])
    store = TCPStore(
        address,
        port,
        size,
        is_master=True,
        timeout=timedelta(seconds=waits),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    _STORES.append(store)
    return address, port


def join(rank: int, size: int, place: tuple[str, int], limit: float, gpu: bool) -> None:
    """Become a rank of the default process group."""
    import torch.distributed as dist

    from jobs.world import BACKENDS

    address, port = place
    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    if address.startswith("127."):  # all on one machine: gloo need not listen on its other interfaces either
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if not _STORES:
        waits = timedelta(seconds=max(limit, JOIN_S))
        _STORES.append(dist.TCPStore(address, port, size, is_master=False, timeout=waits))  # type: ignore[attr-defined]
    dist.init_process_group(
        BACKENDS[gpu], store=_STORES[-1], rank=rank, world_size=size, timeout=timedelta(seconds=limit)
    )
