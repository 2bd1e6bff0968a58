"""How Ray Train makes its workers a process group of ours."""

from dataclasses import dataclass
from typing import Any

from ray.train.backend import Backend
from ray.train.torch import TorchConfig

from jobs.launch.member import listen


@dataclass
class Meeting(TorchConfig):  # type: ignore[misc]
    """Torch's process group, of processes that hear SIGTERM. grace: seconds from there to their end."""

    grace: float = 30.0

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train calls when its workers are there."""
        return _Settling


class _Settling(Backend):  # type: ignore[misc]
    """No shutdown: the processes end with their group, and one that hangs would only be waited for."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Meeting) -> None:
        worker_group.execute(listen, backend_config.grace)  # in their main threads, where training is not
        torch: Backend = TorchConfig().backend_cls()
        torch.on_start(worker_group, backend_config)
