"""Labelled structures of a dataset as batches of tensors."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from equimodels.models.graph import AtomGraph, Structure
from equimodels.objectives.energy_force import LabelledGraph


class StructureSet:
    """Labelled structures. Neighbours are found once, at the first batch: who only wants the facts needs none."""

    def __init__(self, table: pa.Table, *, cutoff: float) -> None:
        self._ids = table["id"].to_pylist()
        self._numbers = [np.asarray(row, dtype=np.int64) for row in _rows(table["numbers"])]
        self._positions = [np.asarray(row, dtype=np.float64).reshape(-1, 3) for row in _rows(table["positions"])]
        self._forces = [np.asarray(row, dtype=np.float64).reshape(-1, 3) for row in _rows(table["forces"])]
        self._energy = table["energy"].to_numpy()
        self._cutoff = cutoff

    @cached_property
    def _structures(self) -> list[Structure]:
        return [Structure.of(z, r, self._cutoff) for z, r in zip(self._numbers, self._positions, strict=True)]

    def __len__(self) -> int:
        return len(self._ids)

    def batch(self, indices: Sequence[int]) -> LabelledGraph:
        graph = AtomGraph.collate([self._structures[i] for i in indices]).to(dtype=torch.get_default_dtype())
        forces = torch.from_numpy(np.concatenate([self._forces[i] for i in indices]))
        energy = torch.from_numpy(self._energy[list(indices)])
        return LabelledGraph(graph, energy, forces.to(torch.get_default_dtype()))

    def identifiers(self, indices: Sequence[int]) -> list[str]:
        return [self._ids[i] for i in indices]

    def facts(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], float, NDArray[np.float64]]]:
        return zip(self._numbers, self._positions, map(float, self._energy), self._forces, strict=True)


def _rows(column: pa.ChunkedArray) -> list[NDArray[Any]]:
    """The lists of a list column as views of one flat buffer, without a Python object for every number."""
    array = column.combine_chunks()
    offsets = array.offsets.to_numpy()
    return np.split(array.flatten().to_numpy(), offsets[1:-1] - offsets[0]) if len(array) else []
