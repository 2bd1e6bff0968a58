"""How long training waits for a checkpoint: python benchmarks/checkpoint_blocking.py [--quick]

A model of 50 million parameters with both moments of AdamW, fp32: 600 MB, on the local disk, one rank. `waits` is how
long the call blocks the training, `done` how long until the checkpoint is complete and safe against a kill. The next
checkpoint of a case begins when the one before is complete. Ours hashes, indexes, uploads to a store in a folder, syncs
and commits; `torch.save` writes one file; DCP is torch.distributed.checkpoint, whose `async_save` copies as ours does,
with its default stager and with one that uses its memory again.
"""

import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from measuring import Goal, Report, in_turn, options_of, ratio, spread, write
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from cluster.store import open_store
from jobs.checkpoints import RunCheckpoints
from jobs.spec.strategy import Checkpoint
from jobs.state.piece import Piece, Slots
from jobs.world import World

SLOTS = ("value", "exp_avg", "exp_avg_sq")
WIDTH, LAYERS = 1024, 48  # 50.4 million numbers in 96 tensors
INTERVAL_S, SHARE = 10.0, 0.05  # of a step-interval that may be spent waiting

State = dict[str, dict[str, torch.Tensor]]


def state(layers: int) -> State:
    """Random numbers: slot -> parameter -> tensor."""
    shapes = {f"layer{i}.weight": (WIDTH, WIDTH) for i in range(layers)} | {
        f"layer{i}.bias": (WIDTH,) for i in range(layers)
    }
    return {slot: {name: torch.randn(shape) for name, shape in shapes.items()} for slot in SLOTS}


class Ours:
    """`RunCheckpoints` on a folder."""

    def __init__(self, folder: Path, everything: State) -> None:
        scratch = folder / "scratch"
        scratch.mkdir()
        self._checkpoints = RunCheckpoints(
            open_store(str(folder / "store")), "bench", World(), Checkpoint(keep_last=1, keep_best=0), scratch
        )
        self._shapes = {name: tuple(value.shape) for name, value in everything["value"].items()}
        self._slots: Slots = {
            slot: {name: Piece(0, value.view(-1)) for name, value in parameters.items()}
            for slot, parameters in everything.items()
        }
        self._step = 0

    def __call__(self) -> Callable[[], None]:
        self._step += 1
        self._checkpoints.save(self._step, self._slots, self._shapes, {}, best=False)
        return self._checkpoints.finish


class TorchSave:
    """One file, and nothing behind the training."""

    def __init__(self, folder: Path, everything: State) -> None:
        self._path, self._state = folder / "state.pt", everything

    def __call__(self) -> Callable[[], None]:
        torch.save(self._state, self._path)
        return lambda: None


class Dcp:
    """`torch.distributed.checkpoint`; stage: how its copy is made, None for a checkpoint without one."""

    def __init__(self, folder: Path, everything: State, stager: DefaultStager | None) -> None:
        self._folder, self._state, self._stager, self._step = folder, everything, stager, 0

    def __call__(self) -> Callable[[], None]:
        self._step += 1
        path = str(self._folder / str(self._step % 2))
        if self._stager is None:
            dcp.save(self._state, checkpoint_id=path)
            return lambda: None
        future = dcp.async_save(self._state, checkpoint_id=path, async_stager=self._stager)
        return getattr(future, "upload_completion", future).result


@contextmanager
def alone() -> Iterator[Path]:
    """A folder, and a process group of one, which DCP asks for."""
    folder = Path(tempfile.mkdtemp(prefix="bench-checkpoint-"))
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=0, world_size=1)
    try:
        yield folder
    finally:
        dist.destroy_process_group()
        shutil.rmtree(folder)


def main() -> None:
    options = options_of(__doc__)
    warnings.filterwarnings("ignore", module="torch.distributed")
    layers = LAYERS // 8 if options.quick else LAYERS
    torch.set_num_threads(1)
    with alone() as root:
        everything = state(layers)
        size = sum(value.nbytes for parameters in everything.values() for value in parameters.values())

        def place(name: str) -> Path:
            (root / name).mkdir()
            return root / name

        plain = StagingOptions(
            use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False
        )
        savers: dict[str, Callable[[], Callable[[], None]]] = {
            "ours": Ours(place("ours"), everything),
            "torch.save": TorchSave(place("torch"), everything),
            "DCP save": Dcp(place("dcp"), everything, None),
            "DCP async_save": Dcp(place("dcp-async"), everything, DefaultStager(plain)),
        }
        done: dict[str, list[float]] = {name: [] for name in savers}
        busy: dict[str, list[float]] = {name: [] for name in savers}
        burnt: dict[str, list[float]] = {name: [] for name in savers}

        def waits(name: str) -> Callable[[], float]:
            def measure() -> float:
                began, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
                finish = savers[name]()
                waited = time.perf_counter() - began
                busy[name].append(time.thread_time() - thread)
                finish()
                burnt[name].append(time.process_time() - process)
                done[name].append(time.perf_counter() - began)
                return waited

            return measure

        found = in_turn({name: waits(name) for name in savers}, options)
    numbers = size // len(SLOTS) // 4
    report = Report(
        "checkpoint_blocking",
        "How long training waits for a checkpoint",
        {"parameters": f"{numbers:,}", "bytes": f"{size:,}", "threads of torch": 1, "disk": "temporary directory"},
        {
            "seconds that training waits": spread(found, "ours", digits=3),
            "seconds until the checkpoint is complete": [
                {"case": name, "median": round(median(times[1:]), 2), "MB/s": round(size / median(times[1:]) / 1e6)}
                for name, times in done.items()
            ],
            "processor seconds, which others' load hardly changes": [
                {
                    "case": name,
                    "of the training thread": round(median(busy[name][1:]), 3),
                    "of all threads": round(median(burnt[name][1:]), 2),
                }
                for name in savers
            ],
        },
        notes=[
            "ours is hashed (sha256, crc32), synced to the disk and committed; the others neither hashed nor synced."
        ],
    )
    allowed = SHARE * INTERVAL_S * (numbers / 50e6)
    report.goals += [
        Goal(f"seconds of waiting, {SHARE:.0%} of {INTERVAL_S:g} s", median(found["ours"]), allowed, less=True),
        Goal("torch.save waits / ours", ratio(found, "torch.save", "ours"), 1.0),
        Goal("DCP async_save waits / ours", ratio(found, "DCP async_save", "ours"), 1.0),
    ]
    write(report, options)


if __name__ == "__main__":
    main()
