"""When a start of the workers reached each stage, on the store as `runs/<id>/starts/<attempt>-<start>.json`.

{"driver": {stage: Unix time}, "ranks": [{stage: Unix time}]}: what `benchmarks/start_up.py` tells apart.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from cluster.store import Store
from jobs.pulse import Reading

LAST = "first step"


class Stages:
    """The driver's own stages, and the workers' once all have made a step."""

    def __init__(self) -> None:
        self._times = {"process": _process_started(), "launch": time.time()}
        self._kept = False

    def passed(self, stage: str) -> None:
        """The driver has done this part of the start."""
        self._times[stage] = time.time()

    def keep(self, store: Store, key: str, readings: Sequence[Reading | None]) -> None:
        """Write everything down as soon as there is nothing more to come, once."""
        ranks = [reading.stages for reading in readings if reading is not None]
        if not self._kept and len(ranks) == len(readings) and all(LAST in stages for stages in ranks):
            self._kept = True
            store.write(key, json.dumps({"driver": self._times, "ranks": ranks}).encode())


def _process_started() -> float:
    """Unix time at which this process began. Linux only."""
    ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
