"""The workers of one start of a run: N processes on reserved places, ranked, watched, and gone at the end.

Plain Ray actors. Ray Train would add five processes of its own, and several times the time to the first step
(docs/decisions/workers-of-our-own.md).
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from jobs.failure import Seen, Symptom
from jobs.launch.member import Ended, Home, Seat, TrainWorker
from jobs.launch.places import Places
from jobs.pulse import Reading

LOOK_S = 1.0  # between two questions to each worker where it is
ECHO_S = 3.0  # after the first failure: what the others have to say
METHODS = {"home": "side", "reading": "side", "stop": "side", "process": "side"}


@dataclass(frozen=True)
class Finished:
    """All ranks came to the end; what the leading one knows."""

    outcome: dict[str, Any]
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Failed:
    """At least one rank did not."""

    symptoms: tuple[Symptom, ...]
    seen: tuple[Seen, ...]
    traces: tuple[str, ...]
    overdue: bool = False  # nobody failed, but a process has answered no more for longer than any collective may take


End = Finished | Failed


class WorkerGroup:
    """One start of the workers. Made as soon as the places are there; `begin` tells them what to do."""

    def __init__(
        self, places: Places, resources: dict[str, float], *, grace: float, prepare: tuple[str, ...] = ()
    ) -> None:
        self._places, self._grace = places, grace
        # One process a place; questions are answered in a thread of their own, whatever the training does.
        actor = ray.remote(
            num_cpus=resources.get("CPU", 0),
            num_gpus=resources.get("GPU", 0),
            max_restarts=0,
            concurrency_groups={"side": 1},
        )(TrainWorker)
        self._members: list[Any] = [
            actor.options(
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=places.group, placement_group_bundle_index=index
                )
            ).remote(grace)
            for index in range(places.size)
        ]
        for member in self._members if prepare else []:
            member.prepare.remote(prepare)
        self._runs: list[Any] = []
        self._heard: list[tuple[float, Reading | None]] = [(time.monotonic(), None)] * places.size
        self._asked: dict[int, Any] = {}
        self._looked = 0.0
        self.nodes: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Number of workers."""
        return self._places.size

    def begin(self, task: dict[str, Any], timeout: float) -> None:
        """Rank the workers, let them meet, and start training. Raises RayError where one is gone already.

        timeout: seconds after which a rank that waits for the others raises.
        """
        homes: list[Home] = ray.get([self._side(member, "home") for member in self._members])
        self.nodes = frozenset(home.node for home in homes)
        order, seats = seated(homes)
        self._members = [self._members[index] for index in order]
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        address = addresses[homes[order[0]].node]
        # Not waited for here: the port goes from the leading rank to the others when it is known.
        port = self._members[0].meet.remote(address, self.size, timeout)
        self._heard = [(time.monotonic(), None)] * self.size
        self._runs = [
            member.train.remote(task, seat, address, port, timeout)
            for member, seat in zip(self._members, seats, strict=True)
        ]

    def watch(self, limit: float, each: Callable[[], None]) -> End:
        """Until all have come to the end, or one has failed and the others have had the time to say so too.

        limit: seconds after which a process that does not answer counts as hung. each: called every second.
        """
        ended: dict[int, Ended | RayError] = {}
        deadline = float("inf")
        while len(ended) < self.size and time.monotonic() < deadline:
            waiting = [run for rank, run in enumerate(self._runs) if rank not in ended]
            ray.wait(waiting, num_returns=1, timeout=min(LOOK_S, max(0.05, deadline - time.monotonic())))
            for rank, run in enumerate(self._runs):
                if rank not in ended and ray.wait([run], timeout=0)[0]:
                    ended[rank] = self._result(run)
                    if not _is_good(ended[rank]) and deadline == float("inf"):
                        deadline = time.monotonic() + (self._grace if _is_polite(ended[rank]) else ECHO_S)
            self._listen()
            if len(ended) < self.size and deadline == float("inf"):
                each()
                if any(one.silent_s > limit for one in self.seen()):
                    return Failed((), self.seen(), (), overdue=True)
        if len(ended) == self.size and all(_is_good(one) for one in ended.values()):
            results = [ended[rank] for rank in range(self.size)]
            goods = [one for one in results if isinstance(one, Ended)]
            return Finished(goods[0].outcome or {}, tuple(one.reading for one in goods if one.reading))
        bad = {rank: one for rank, one in ended.items() if not _is_good(one)}
        return Failed(
            tuple(_symptom(rank, one) for rank, one in sorted(bad.items())),
            self.seen(),
            tuple(f"rank {rank}: {one.trace if isinstance(one, Ended) else one}" for rank, one in sorted(bad.items())),
        )

    def stop(self) -> None:
        """Ask all to save a checkpoint and end."""
        for member in self._members:
            self._side(member, "stop")

    def await_end(self, seconds: float) -> bool:
        """Wait until all have ended, well or not; whether they have."""
        done, _ = ray.wait(self._runs, num_returns=len(self._runs), timeout=seconds) if self._runs else ([], [])
        return len(done) == len(self._runs)

    def close(self) -> None:
        """End the processes and give the places back."""
        with contextlib.suppress(RayError):
            for member in self._members:
                ray.kill(member)
            self._places.give_back()

    def seen(self) -> tuple[Seen, ...]:
        """The last that was heard of every rank."""
        now, found = time.monotonic(), []
        for rank, (heard, reading) in enumerate(self._heard):
            reading = reading or Reading(None, 0.0, "")
            found.append(Seen(rank, reading.step, now - heard, reading.seconds, reading.place))
        return tuple(found)

    def readings(self) -> list[Reading | None]:
        """What each rank said last."""
        return [reading for _, reading in self._heard]

    def processes(self) -> list[tuple[str, int]]:
        """(host, process id) of each rank."""
        found: list[tuple[str, int]] = ray.get([self._side(member, "process") for member in self._members])
        return found

    def _listen(self) -> None:
        """Collect answers, and ask those who have answered again; a rank that does not answer is not asked twice."""
        for rank, question in list(self._asked.items()):
            if ray.wait([question], timeout=0)[0]:
                del self._asked[rank]
                with contextlib.suppress(RayError):
                    self._heard[rank] = (time.monotonic(), ray.get(question))
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            for rank, member in enumerate(self._members):
                if rank not in self._asked:
                    self._asked[rank] = self._side(member, "reading")

    @staticmethod
    def _side(member: Any, method: str) -> Any:
        return getattr(member, method).options(concurrency_group=METHODS[method]).remote()

    @staticmethod
    def _result(run: Any) -> Ended | RayError:
        try:
            ended: Ended = ray.get(run)
        except RayError as error:
            return error
        return ended


def seated(homes: list[Home]) -> tuple[list[int], list[Seat]]:
    """Who gets which rank: members of a node beside each other, in the order in which nodes appear.

    Returns the index of the member of each rank, and its seat.
    """
    nodes = list(dict.fromkeys(home.node for home in homes))
    order = sorted(range(len(homes)), key=lambda index: (nodes.index(homes[index].node), index))
    seats, ranks = [], dict.fromkeys(nodes, 0)
    for rank, index in enumerate(order):
        node = homes[index].node
        there = [homes[other] for other in order if homes[other].node == node]
        # First the one that is used of each member, so that a member's own has the index of its rank on the node.
        visible = [home.gpus[0] for home in there if home.gpus] + [gpu for home in there for gpu in home.gpus[1:]]
        seats.append(Seat(rank, len(homes), ranks[node], len(there), ",".join(visible)))
        ranks[node] += 1
    return order, seats


def _is_good(end: Ended | RayError) -> bool:
    return isinstance(end, Ended) and end.outcome is not None


def _is_polite(end: Ended | RayError) -> bool:
    """A rank that ended as it was asked to: the others still commit their checkpoint."""
    return isinstance(end, Ended) and end.kind == "PreemptedError"


def _symptom(rank: int, end: Ended | RayError) -> Symptom:
    if isinstance(end, Ended):
        return Symptom(rank, end.kind, end.text, end.bases)
    return Symptom(rank, type(end).__name__, str(end), tuple(base.__name__ for base in type(end).__mro__[1:]))
