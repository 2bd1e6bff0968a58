"""Scripts on several ranks of this machine, under torchrun: a GPU each, or a thread of a processor each."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from jobs.world import World

CPU_RANKS = 2


def ranks_on(device: str) -> int:
    """How many ranks there are: two on a CPU, else one for each GPU. Ends the program with 2 where there is no GPU."""
    if device == "cpu":
        return CPU_RANKS
    try:
        import torch
    except ImportError:
        _missing("PyTorch built for CUDA", f"{sys.executable} has no torch")
    if device != "cuda":
        _missing("a device that is cpu or cuda", f"not {device}")
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        _missing("a CUDA GPU and its driver", f"torch {torch.__version__} of {sys.executable}, {built}, finds none")
    return torch.cuda.device_count()


def _missing(what: str, found: str) -> None:
    sys.stderr.write(f"{Path(sys.argv[0]).name} needs {what}: {found}.\n")
    sys.exit(2)


def name_of(device: str) -> str:
    """What a person calls the device."""
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name()


def torchrun(script: Path, *arguments: str, ranks: int, device: str, **more: Any) -> None:
    """Run a script on so many ranks. before: of the command; environment: added. Raises RuntimeError if it fails."""
    command = [*more.get("before", ()), sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--local-addr=127.0.0.1", f"--nproc-per-node={ranks}", str(script), *arguments]
    environment: Mapping[str, str] = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "DS_ACCELERATOR": device,
        "DS_LOG_LEVEL": "ERROR",
        **more.get("environment", {}),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])


@contextlib.contextmanager
def joined(kind: str) -> Iterator[tuple["World", "torch.device"]]:
    """The group of all ranks, from the environment that torchrun gives, and the device of this one."""
    import torch
    import torch.distributed as dist

    from jobs.strategy.build import device_of
    from jobs.world import BACKENDS, World

    torch.set_num_threads(1)
    gpu = kind == "cuda"
    device = device_of(int(os.environ["LOCAL_RANK"]), gpu=gpu)
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(BACKENDS[gpu])
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
