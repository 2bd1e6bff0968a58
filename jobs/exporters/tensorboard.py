"""TensorBoard: event files at `runs/<id>/tensorboard/`, written with tensorboardX (which Ray Tune brings along).

Event files grow at their end, which a bucket does not know; so each stretch of steps is a file of its own, named in the
order in which TensorBoard reads them.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from jobs.exporters.exporter import About, numbers

VERSION = "brain.Event:2"


class TensorBoard:
    """Scalars by their names; `valid/...` is a group of its own."""

    def __init__(self, about: About) -> None:
        self._about, self._files = about, 0

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        events = [
            Event(
                wall_time=row["time"].timestamp(),
                step=row["step"],
                summary=Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in found.items()]),
            )
            for row in rows
            if (found := numbers(row))
        ]
        if not events:
            return
        with tempfile.TemporaryDirectory(prefix="equi-tensorboard-") as folder:
            path = Path(folder) / "events"
            writer = RecordWriter(str(path))
            first = [Event(wall_time=events[0].wall_time, file_version=VERSION)]
            if not self._files:  # of an attempt: TensorBoard forgets what it has read of later steps
                begun = SessionLog(status=SessionLog.START)
                first.append(Event(wall_time=events[0].wall_time, step=events[0].step, session_log=begun))
            for event in (*first, *events):
                writer.write(event.SerializeToString())
            writer.close()
            name = f"events.out.tfevents.{self._about.attempt:03d}-{self._files:05d}"
            self._about.store.write(f"runs/{self._about.run}/tensorboard/{name}", path.read_bytes())
        self._files += 1

    def end(self) -> None:
        """Every file is complete already."""


def start(about: About) -> TensorBoard:
    """The exporter of this run."""
    return TensorBoard(about)
