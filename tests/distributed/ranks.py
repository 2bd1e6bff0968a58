"""Processes on 127.0.0.1 that form a gloo group and call functions of test files: `Ranks(2).call(function, ...)`.

One set of processes serves many tests, because importing torch and DeepSpeed takes seconds. A function that runs on the
ranks is an ordinary function at the top of a test file; its first argument is the rank's `World`.
"""

import contextlib
import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class RankFailedError(AssertionError):
    """A function raised on a rank, or a rank ended or took too long; with what the ranks wrote."""


class Ranks:
    """`size` processes; started at the first call, and again after a call that failed."""

    def __init__(self, size: int, environment: dict[str, str] | None = None) -> None:
        self.size = size
        self.processes: list[subprocess.Popen[bytes]] = []
        self._environment = environment or {}
        self._pipes: list[Connection] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float = 240.0) -> list[Any]:
        """`function(world, *arguments)` on every rank at once; the results in rank order (anything that pickles).

        Raises RankFailedError.
        """
        if not self.processes:
            self._start()
        for pipe in self._pipes:
            pipe.send_bytes(pickle.dumps((function.__code__.co_filename, function.__qualname__, arguments)))
        deadline, results = time.monotonic() + seconds, {}
        while len(results) < self.size:
            left = [pipe for rank, pipe in enumerate(self._pipes) if rank not in results]
            ready = wait(left, timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                late = [rank for rank in range(self.size) if rank not in results]
                raise RankFailedError(f"ranks {late} took more than {seconds:.0f} s\n{self._end()}")
            for pipe in ready:
                rank = self._pipes.index(pipe)
                try:
                    raised, value = pickle.loads(pipe.recv_bytes())
                except EOFError:
                    raise RankFailedError(f"rank {rank} has ended\n{self._end()}") from None
                if raised:  # the others may be waiting for it in a collective for ever
                    raise RankFailedError(f"rank {rank}: {value}\n{self._end()}")
                results[rank] = value
        return [results[rank] for rank in range(self.size)]

    def close(self) -> None:
        """End the processes; the next call starts others."""
        self._end()

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-")
        meeting = Path(self._folder.name) / "meeting"
        for rank in range(self.size):
            ours, theirs = Pipe()
            environment = {
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(self.size),
                "GLOO_SOCKET_IFNAME": "lo",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
                **self._environment,
            }
            with self._log(rank).open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, __file__, str(theirs.fileno()), str(meeting), self._folder.name],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                )
            theirs.close()
            self.processes.append(process)
            self._pipes.append(ours)

    def _end(self) -> str:
        """Kill all processes; the end of what each wrote."""
        for process in self.processes:
            process.kill()
            process.wait()
        for pipe in self._pipes:
            pipe.close()
        written = [f"--- rank {rank}\n" + self._log(rank).read_text()[-3000:] for rank in range(len(self.processes))]
        self.processes, self._pipes = [], []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        return "\n".join(written)

    def _log(self, rank: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / f"rank-{rank}.log"


def serve(pipe: Connection, meeting: str, scratch: Path) -> None:
    """A rank: join the group, then do what comes through the pipe until it closes."""
    import torch
    import torch.distributed as dist

    from jobs.world import World

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    world = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    os.environ.update(DS_ACCELERATOR="cpu", DS_LOG_LEVEL="ERROR", TORCH_EXTENSIONS_DIR=str(scratch / "extensions"))
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=world.rank, world_size=world.size)
    modules: dict[str, Any] = {}
    with contextlib.suppress(EOFError):
        while True:
            file, name, arguments = pickle.loads(pipe.recv_bytes())
            try:
                if file not in modules:
                    modules[file] = _load(file)
                answer = (False, getattr(modules[file], name)(world, *arguments))
            except Exception:
                answer = (True, traceback.format_exc())
            # Plain pickle: a Connection's own would pass tensors as open files, which only its children can take.
            pipe.send_bytes(pickle.dumps(answer))


def _end_with(parent: int) -> None:
    """A test that was killed leaves nobody who would end its ranks."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _load(file: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"on_ranks_{Path(file).stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2], Path(sys.argv[3]))
