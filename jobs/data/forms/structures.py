"""Structures as graphs of atoms, with the labels that the dataset has.

Shapes: n structures, N atoms of them all. Angstrom, eV.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from cluster.errors import UserError
from equimodels.models.graph import AtomGraph, states
from equimodels.models.neighbours import neighbour_pairs_of_many
from equimodels.objectives.energy_force import LabelledGraph
from jobs.data.forms.form import fixed, ragged
from jobs.data.rows import Column, Integers, Rows
from jobs.data.states import charges_and_spins

_GIVEN = ("numbers", "positions")
_CELL = ("cell", "pbc")
_LABELS = ("energy", "forces")
_STATE = ("charge", "spin")
_PAIRS = ("edges", "images")  # of `equi data prepare`: made for one cutoff, which the field says


@dataclass(frozen=True)
class StructureForm:
    """Batches are `LabelledGraph`, or `AtomGraph` where the dataset has no energies and forces.

    cutoff: angstrom; None makes graphs without edges, for who finds neighbours on the device.
    """

    cutoff: float | None = None

    def columns(self, schema: pa.Schema) -> list[str]:
        """Numbers, positions, and what the dataset has of cell and labels."""
        lacking = [name for name in _GIVEN if name not in schema.names]
        if lacking:
            raise UserError(f"the dataset holds no structures; missing columns: {', '.join(lacking)}")
        whole = [part for part in (_CELL, _LABELS) if all(name in schema.names for name in part)]
        pairs = [name for name in _PAIRS if name in schema.names and self._made_for(schema.field(name))]
        state = [name for name in _STATE if name in schema.names]
        return [*_GIVEN, *(name for part in whole for name in part), *state, *pairs]

    def _made_for(self, field: pa.Field) -> bool:
        """Whether neighbours were stored for this cutoff."""
        stored = (field.metadata or {}).get(b"cutoff")
        return self.cutoff is not None and stored is not None and float(stored) == self.cutoff

    def decode(self, table: pa.Table) -> Rows:
        """Atoms one after another, (N,) and (N, 3), all ragged columns sharing their offsets."""
        numbers, atoms = ragged(table["numbers"])
        columns = {"numbers": Column(numbers, atoms)}
        for name in ("positions", "forces"):
            if name in table.column_names:
                columns[name] = Column(ragged(table[name])[0].reshape(-1, 3), atoms)
        for name in ("energy", "cell", "pbc"):
            if name in table.column_names:
                columns[name] = Column(fixed(table[name]))
        if (told := charges_and_spins(table)) is not None:
            columns |= {name: Column(values) for name, values in zip(_STATE, told, strict=True)}
        if "edges" in table.column_names:
            pairs, ends = ragged(table["edges"])
            columns["edges"] = Column(pairs.reshape(-1, 2), ends // 2)
            if "images" in table.column_names:
                columns["images"] = Column(ragged(table["images"])[0].reshape(-1, 3), columns["edges"].offsets)
        return Rows(table.num_rows, columns)

    def weights(self, rows: Rows, quantities: frozenset[str]) -> Mapping[str, Integers]:
        """`atoms`, and `edges` within the cutoff: unless stored, those are found now, of all rows by every rank."""
        found: dict[str, Integers] = {}
        if "atoms" in quantities:
            found["atoms"] = rows["numbers"].lengths
        if "edges" in quantities:
            if self.cutoff is None:
                raise UserError("a budget of edges needs a cutoff", hint="limit atoms, or give the form a cutoff")
            found["edges"] = _pairs(rows, self.cutoff)[2]
        return found

    @property
    def at_once(self) -> int:
        """Edges take more memory than atoms, and more time to find."""
        return 4096 if self.cutoff is None else 512

    def prepare(self, rows: Rows) -> Rows:
        """Lengths in float64 where that is torch's default type, else in float32; edges numbered through all rows."""
        dtype = np.float64 if torch.get_default_dtype() == torch.float64 else np.float32
        numbers = rows["numbers"]
        atoms = numbers.offsets
        assert atoms is not None
        new = {
            "numbers": Column(numbers.values.astype(np.int64), atoms),
            "owner": Column(np.repeat(np.arange(len(rows)), numbers.lengths), atoms),
            "first": Column(atoms[:-1]),  # number of the first atom of each structure
        }
        for name in ("positions", "forces"):
            if name in rows:
                new[name] = Column(rows[name].values.astype(dtype), atoms)
        if self.cutoff is not None:
            edges, images, counts = _pairs(rows, self.cutoff)
            ends = np.concatenate([[0], np.cumsum(counts)])
            new |= {"sender": Column(edges[0], ends), "receiver": Column(edges[1], ends)}
            if "cell" in rows:
                shifts = np.einsum("es,esx->ex", images, np.repeat(rows["cell"].values, counts, axis=0))
                new["shifts"] = Column(shifts.astype(dtype), ends)
        return rows.replaced(**new)

    def batch(self, rows: Rows) -> LabelledGraph | AtomGraph:
        """Energies in float64."""
        positions = torch.from_numpy(rows["positions"].values)
        edges = np.empty((2, 0 if self.cutoff is None else len(rows["sender"].values)), dtype=np.int64)
        if self.cutoff is not None:
            first = rows["first"].values[0]
            np.subtract(rows["sender"].values, first, out=edges[0])
            np.subtract(rows["receiver"].values, first, out=edges[1])
        owner = rows["owner"].values
        graph = AtomGraph(
            numbers=torch.from_numpy(rows["numbers"].values),
            positions=positions,
            edges=torch.from_numpy(edges),
            shifts=torch.from_numpy(rows["shifts"].values)
            if "shifts" in rows
            else positions.new_zeros(edges.shape[1], 3),
            owner=torch.from_numpy(owner - owner[0]),
            structures=len(rows),
            state=_states(rows, positions),
        )
        if "forces" not in rows:
            return graph
        return LabelledGraph(graph, torch.from_numpy(rows["energy"].values), torch.from_numpy(rows["forces"].values))


def _states(rows: Rows, like: torch.Tensor) -> torch.Tensor | None:
    """Charges and unpaired electrons of the structures; None for neutral singlets alone."""
    if "charge" not in rows:
        return None
    return states(rows["charge"].values.tolist(), rows["spin"].values.tolist(), like)


def _pairs(rows: Rows, cutoff: float) -> tuple[Integers, Integers, Integers]:
    """Edges (2, E), images (E, 3) and edges of each structure (n,): those that are stored, or found now."""
    if "edges" in rows:
        return _stored_pairs(rows)
    cell = rows["cell"].values if "cell" in rows else None
    pbc = rows["pbc"].values.astype(bool) if "pbc" in rows else None
    sizes = rows["numbers"].lengths
    edges, images, counts = neighbour_pairs_of_many(rows["positions"].values, sizes, cutoff, cell, pbc)
    return edges, images, counts


def _stored_pairs(rows: Rows) -> tuple[Integers, Integers, Integers]:
    atoms, edges = rows["numbers"].offsets, rows["edges"]
    assert atoms is not None
    counts = edges.lengths
    found = edges.values.T.astype(np.int64) + np.repeat(atoms[:-1], counts)
    images = rows["images"].values.astype(np.int64) if "images" in rows else np.zeros((found.shape[1], 3), np.int64)
    return found, images, counts
