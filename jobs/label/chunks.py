"""A chunk: one block of a trajectory as an Arrow IPC file, with the state the next block starts from.

A chunk on the store is finished work: resuming a run begins each trajectory after its last chunk. The state
travels in the file's schema metadata, positions and momenta as raw float64 so that a resumed trajectory is
bit-identical.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from jobs.label.geometry import Floats
from jobs.label.labels import Labels
from jobs.label.md import Block, Failure, State

_META = b"equimodels.chunk"


@dataclass(frozen=True)
class Plan:
    """How a trajectory is cut: `frames` frames in chunks of `size`, the last one shorter."""

    frames: int
    size: int

    def chunks(self) -> list[range]:
        """The frame numbers of each chunk."""
        return [range(at, min(at + self.size, self.frames)) for at in range(0, self.frames, self.size)]


@dataclass(frozen=True)
class Chunk:
    """One finished block."""

    digest: str  # of the spec that asked for it: a chunk of another spec is not this run's work
    trajectory: int
    frames: range
    block: Block
    state: State


def chunk_key(run: str, trajectory: int, frames: range) -> str:
    """Where on the store a chunk lives; sorts by trajectory, then by frame."""
    return f"runs/{run}/chunks/t{trajectory:05d}-f{frames.start:07d}-{frames.stop:07d}.arrow"


def encode(chunk: Chunk) -> bytes:
    """The chunk as an Arrow IPC file."""
    block = chunk.block
    meta = {
        "digest": chunk.digest,
        "trajectory": chunk.trajectory,
        "frames": [chunk.frames.start, chunk.frames.stop],
        "failures": [asdict(failure) for failure in block.failures],
        "state": {
            "positions": _raw(chunk.state.positions),
            "momenta": _raw(chunk.state.momenta),
            "generator": chunk.state.generator,
        },
    }
    columns = {
        "frame": pa.array(block.numbers, pa.int64()),
        "positions": _lists(block.positions),
        "energy": pa.array([labels.energy for labels in block.labels], pa.float64()),
        "forces": _lists([labels.forces for labels in block.labels]),
        "temperature": pa.array(block.temperatures, pa.float64()),
    }
    if block.labels and block.labels[0].stress is not None:
        columns["stress"] = _lists([labels.stress for labels in block.labels])
    table = pa.table(columns).replace_schema_metadata({_META: json.dumps(meta).encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def decode(data: bytes) -> Chunk:
    """The chunk again, bit for bit. Raises pyarrow.ArrowInvalid for anything that is not one."""
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        table = reader.read_all()
    if _META not in (table.schema.metadata or {}):
        raise pa.ArrowInvalid("an Arrow file, but not a chunk of a label run")
    meta = json.loads(table.schema.metadata[_META])
    stresses = _rows(table["stress"]) if "stress" in table.column_names else [None] * table.num_rows
    block = Block(
        numbers=table["frame"].to_pylist(),
        positions=_rows(table["positions"]),
        labels=[
            Labels(*row) for row in zip(table["energy"].to_pylist(), _rows(table["forces"]), stresses, strict=True)
        ],
        temperatures=table["temperature"].to_pylist(),
        failures=[Failure(**failure) for failure in meta["failures"]],
    )
    state = State(
        positions=_array(meta["state"]["positions"]),
        momenta=_array(meta["state"]["momenta"]),
        generator=meta["state"]["generator"],
    )
    return Chunk(meta["digest"], meta["trajectory"], range(*meta["frames"]), block, state)


def _lists(parts: Sequence[Floats | None]) -> pa.Array:
    return pa.array([np.asarray(part, dtype=np.float64).ravel() for part in parts], pa.list_(pa.float64()))


def _raw(values: Floats) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode()


def _array(raw: str) -> Floats:
    return np.frombuffer(base64.b64decode(raw), dtype="<f8").reshape(-1, 3).copy()


def _rows(column: pa.ChunkedArray) -> list[Floats]:
    return [np.array(row, dtype=np.float64).reshape(-1, 3) for row in column.to_pylist()]
