"""From rows of a dataset to the tensors of a batch: the same as collating one sample after another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from cluster.dataset.tensors import tensor_array
from cluster.errors import UserError
from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.images import ImageBatch
from jobs.data.forms import ImageForm, PlainForm, StructureForm, form_of

CUTOFF = 3.0


def structures(*, periodic: bool = False, stored: bool = False) -> pa.Table:
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for size in (3, 1, 5, 2):
        positions = random.uniform(0, 4, size=(size, 3))
        numbers = random.integers(1, 9, size)
        row = {
            "numbers": numbers.tolist(),
            "positions": positions.ravel().tolist(),
            "energy": float(size),
            "forces": random.normal(size=3 * size).tolist(),
        }
        if stored:
            edges = Structure.of(numbers, positions, CUTOFF).edges
            row["edges"] = edges.numpy().T.ravel().tolist()
        rows.append(row)
    table = pa.Table.from_pylist(rows)
    table = table.set_column(0, "numbers", table["numbers"].cast(pa.list_(pa.uint8())))
    if stored:
        place = table.column_names.index("edges")
        field = pa.field("edges", pa.list_(pa.uint32()), metadata={"cutoff": str(CUTOFF)})
        table = table.set_column(place, field, table["edges"].cast(field.type))
    if periodic:
        cells = np.stack([np.diag([4.0, 4.5, 5.0])] * 4)
        pbc = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=np.uint8)
        table = table.append_column("cell", tensor_array(cells)).append_column("pbc", tensor_array(pbc))
    return table


def one_by_one(table: pa.Table, rows: Sequence[int]) -> AtomGraph:
    found = []
    for row in rows:
        values = {name: table[name][row] for name in table.column_names}
        positions = np.array(values["positions"].as_py()).reshape(-1, 3)
        lattice = {}
        if "cell" in values:
            lattice = {"cell": values["cell"].to_numpy(), "pbc": values["pbc"].to_numpy().astype(bool)}
        found.append(Structure.of(np.array(values["numbers"].as_py()), positions, CUTOFF, **lattice))
    return AtomGraph.collate(found).to(dtype=torch.get_default_dtype())


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 0], [1]])
def test_a_batch_of_structures_is_the_graph_of_each_side_by_side(rows: list[int], periodic: bool) -> None:
    table, form = structures(periodic=periodic), StructureForm(CUTOFF)
    batch = form.batch(form.prepare(form.decode(table).take(np.array(rows))))
    expected = one_by_one(table, rows)
    for name in ("numbers", "positions", "edges", "shifts", "owner"):
        torch.testing.assert_close(getattr(batch.graph, name), getattr(expected, name), rtol=0, atol=1e-6)
    assert batch.graph.structures == len(rows)
    assert batch.energy.tolist() == [table["energy"][row].as_py() for row in rows]
    forces = np.concatenate([np.array(table["forces"][row].as_py()).reshape(-1, 3) for row in rows])
    torch.testing.assert_close(batch.forces.double(), torch.from_numpy(forces), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("periodic", [False, True])
def test_batches_cut_from_rows_that_were_prepared_together_are_those_prepared_alone(periodic: bool) -> None:
    table, form = structures(periodic=periodic), StructureForm(CUTOFF)
    together = form.prepare(form.decode(table).take(np.array([3, 0, 2, 1])))
    for start, stop, rows in ((0, 2, [3, 0]), (2, 3, [2]), (1, 4, [0, 2, 1])):
        batch, expected = form.batch(together.slice(start, stop)), one_by_one(table, rows)
        for name in ("numbers", "positions", "edges", "shifts", "owner"):
            torch.testing.assert_close(getattr(batch.graph, name), getattr(expected, name), rtol=0, atol=1e-6)


def test_neighbours_that_are_stored_are_those_that_are_found() -> None:
    with_pairs, without = structures(stored=True), structures()
    form = StructureForm(CUTOFF)
    assert "edges" in form.columns(with_pairs.schema)
    stored = form.batch(form.prepare(form.decode(with_pairs).take(np.array([2, 0, 3])))).graph
    found = form.batch(form.prepare(form.decode(without).take(np.array([2, 0, 3])))).graph
    assert torch.equal(stored.edges, found.edges)
    assert torch.equal(stored.shifts, found.shifts)


def test_neighbours_stored_for_another_cutoff_are_not_used() -> None:
    assert "edges" not in StructureForm(4.0).columns(structures(stored=True).schema)
    assert "edges" not in StructureForm().columns(structures(stored=True).schema)


def test_without_labels_batches_are_bare_graphs() -> None:
    form = StructureForm()
    table = structures().drop_columns(["energy", "forces"])
    assert form.columns(table.schema) == ["numbers", "positions"]
    graph = form.batch(form.prepare(form.decode(table).take(np.arange(4))))
    assert isinstance(graph, AtomGraph)
    assert graph.edges.shape == (2, 0)


def test_charge_and_multiplicity_go_along_and_what_a_row_does_not_say_is_a_neutral_singlet() -> None:
    form, table = StructureForm(CUTOFF), structures()
    table = table.append_column("charge", pa.array([0.0, -1.0, None, 2.0])).append_column(
        "spin", pa.array([1, 2, 3, None])
    )
    assert form.columns(table.schema)[-2:] == ["charge", "spin"]
    rows = form.prepare(form.decode(table).take(np.array([1, 2, 3, 0])))
    assert form.batch(rows).graph.state.tolist() == [[-1.0, 1.0], [0.0, 2.0], [2.0, 0.0], [0.0, 0.0]]
    assert form.batch(rows.slice(3, 4)).graph.state is None
    assert form.batch(form.prepare(form.decode(structures()).take(np.arange(4)))).graph.state is None


def test_structures_without_positions_are_refused() -> None:
    with pytest.raises(UserError, match="missing columns: positions"):
        StructureForm().columns(structures().drop_columns(["positions"]).schema)


def test_bytes_of_images_become_numbers_from_0_to_1() -> None:
    pixels = np.arange(2 * 12, dtype=np.uint8).reshape(2, 1, 3, 4) * 10
    table = pa.table({"pixels": tensor_array(pixels), "label": [3, 1]})
    form = ImageForm()
    batch = form.batch(form.prepare(form.decode(table).take(np.arange(2))))
    torch.testing.assert_close(batch.pixels, torch.from_numpy(pixels).float() / 255)
    assert batch.labels.tolist() == [3, 1]
    raw = ImageForm(raw=True)
    assert torch.equal(raw.batch(raw.prepare(raw.decode(table).take(np.arange(2)))).pixels, torch.from_numpy(pixels))


def test_images_without_labels_have_the_label_minus_one() -> None:
    table = pa.table({"pixels": tensor_array(np.ones((2, 1, 3, 4), dtype=np.float32))})
    form = ImageForm()
    batch = form.batch(form.prepare(form.decode(table.select(form.columns(table.schema))).take(np.arange(2))))
    assert isinstance(batch, ImageBatch)
    assert batch.labels.tolist() == [-1, -1]


def test_plain_columns_are_tensors_and_ragged_ones_come_with_their_lengths() -> None:
    lists = pa.array([[1.0, 2.0, 3.0], [], [4.0]], pa.list_(pa.float32()))
    values = tensor_array(np.arange(6.0).reshape(3, 1, 2))
    table = pa.table({"id": ["a", "b", "c"], "x": [1, 2, 3], "features": lists, "values": values})
    form = PlainForm()
    assert form.columns(table.schema) == ["x", "features", "values"]
    batch = form.batch(form.prepare(form.decode(table.select(form.columns(table.schema))).take(np.array([2, 0]))))
    assert batch["x"].tolist() == [3, 1]
    assert [part.tolist() for part in batch["features"]] == [[4.0, 1.0, 2.0, 3.0], [1, 3]]
    assert batch["values"].tolist() == [[[4.0, 5.0]], [[0.0, 1.0]]]


def test_only_what_has_atoms_can_be_limited_by_them() -> None:
    clouds = pa.table({"positions": pa.array([[0.0] * 6, [0.0] * 3], pa.list_(pa.float64()))})
    form = form_of("points")
    assert form.weights(form.decode(clouds), frozenset({"atoms"}))["atoms"].tolist() == [2, 1]
    with pytest.raises(UserError, match="only point clouds can be limited"):
        form.weights(form.decode(pa.table({"x": [1, 2]})), frozenset({"atoms"}))
    with pytest.raises(UserError, match="no atoms or edges to limit"):
        form_of("images").weights(form.decode(clouds), frozenset({"atoms"}))
    with pytest.raises(UserError, match="a budget of edges needs a cutoff"):
        StructureForm().weights(StructureForm().decode(structures()), frozenset({"edges"}))
