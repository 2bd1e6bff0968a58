"""Each step of a preparation against a slow, obvious twin."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from pydantic import ValidationError

from cluster.dataset.statistics import describe, measure, merge
from cluster.dataset.tensors import tensor_array, tensor_numpy
from cluster.errors import NotFoundError, UserError
from cluster.registry import publish_model
from cluster.store import Store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import load_model, save_model
from equimodels.models.graph import AtomGraph
from equimodels.models.graph import Structure as Graph
from jobs.data.forms import StructureForm
from jobs.evaluation.frames import frames_of
from jobs.evaluation.local import local_model
from jobs.ingest.columns import table_of
from jobs.ingest.rows import ImageRow, image_table
from jobs.ingest.structures import Structure, structure_columns
from jobs.prepare import figures
from jobs.prepare.catalogue import STEPS
from jobs.prepare.features import FEATURES, FeatureSettings
from jobs.prepare.filtering import FILTER, FilterSettings
from jobs.prepare.neighbours import NEIGHBOURS, NeighbourSettings
from jobs.prepare.step import Outcome, Rows, Surroundings

CUTOFF = 3.0


def structures(count: int, *, periodic: bool = False, seed: int = 0, far: float = 0.0) -> pa.Table:
    """Random atoms of H, C, O with labels; where periodic, every second one is a crystal."""
    rng = np.random.default_rng(seed)
    made = []
    for row in range(count):
        if periodic and row % 2:
            atoms = bulk("Cu", a=3.6, cubic=bool(row % 4 == 1))
            atoms.rattle(0.05, seed=row)
        else:
            size = int(rng.integers(1, 9))
            grid = rng.permutation(27)[:size]  # apart from each other
            spots = np.stack([grid // 9, grid // 3 % 3, grid % 3], axis=1) * 1.3 + rng.normal(0, 0.1, (size, 3))
            atoms = Atoms(rng.choice([1, 6, 8], size), positions=spots + far)
        labels = {"energy": float(rng.normal(0, 5)), "forces": rng.normal(0, 2, (len(atoms), 3))}
        made.append(Structure(atoms.numbers, atoms.positions, np.array(atoms.cell), np.array(atoms.pbc), labels))
    ids = pa.array([f"s{row}" for row in range(count)])
    return table_of(ids, structure_columns(made), "train")


def atoms_of(row: dict[str, Any]) -> Any:
    return Atoms(
        row["numbers"],
        positions=np.reshape(row["positions"], (-1, 3)),
        cell=np.reshape(row.get("cell", np.zeros(9)), (3, 3)),
        pbc=row.get("pbc", np.zeros(3)),
    )


def done(step: Any, settings: Any, table: pa.Table, store: Store | None = None, kind: Any = "structures") -> Outcome:
    outcome: Outcome = step.make(settings, Surroundings(store))(Rows(table, kind))
    return outcome


def slow_filter(row: dict[str, Any], settings: FilterSettings) -> str | None:
    """The first reason to drop a row."""
    size = len(row["numbers"])
    symbols = {1: "H", 6: "C", 8: "O", 29: "Cu"}
    if settings.drop_ids is not None and row["id"] in settings.drop_ids:
        return "drop_ids"
    if settings.species is not None and any(symbols[z] not in settings.species for z in row["numbers"]):
        return "species"
    if settings.min_atoms is not None and size < settings.min_atoms:
        return "min_atoms"
    if settings.max_atoms is not None and size > settings.max_atoms:
        return "max_atoms"
    if settings.energy_per_atom is not None:
        lowest, highest = settings.energy_per_atom
        if not lowest <= row["energy"] / size <= highest:
            return "energy_per_atom"
    forces = [row["forces"][at : at + 3] for at in range(0, 3 * size, 3)]
    if settings.max_force is not None and any(sum(f * f for f in force) > settings.max_force**2 for force in forces):
        return "max_force"
    return None


@pytest.mark.parametrize(
    "given",
    [
        {"max_atoms": 4},
        {"min_atoms": 3, "max_atoms": 6},
        {"species": ["H", "O"]},
        {"max_force": 4.0},
        {"energy_per_atom": [-1.0, 0.5]},
        {"drop_ids": ["s1", "s5", "nobody"]},
        {"drop_ids": ["s2"], "species": ["C", "H"], "min_atoms": 2, "energy_per_atom": [-2, 2], "max_force": 5},
    ],
)
def test_a_filter_drops_what_the_row_by_row_filter_drops_for_the_same_reasons(given: dict[str, Any]) -> None:
    settings, table = FilterSettings(**given), structures(200)
    outcome = done(FILTER, settings, table)
    reasons = {row["id"]: slow_filter(row, settings) for row in table.to_pylist()}
    assert outcome.table["id"].to_pylist() == [name for name, why in reasons.items() if why is None]
    assert 0 < outcome.table.num_rows < 200
    for why, count in outcome.dropped.items():
        assert count == list(reasons.values()).count(why)
    assert sum(outcome.dropped.values()) == 200 - outcome.table.num_rows


def test_a_filter_works_on_a_slice_of_a_table() -> None:
    table = structures(60)
    whole = done(FILTER, FilterSettings(max_force=4.0), table).table["id"].to_pylist()
    parts = [done(FILTER, FilterSettings(max_force=4.0), table.slice(at, 20)).table for at in (0, 20, 40)]
    assert [name for part in parts for name in part["id"].to_pylist()] == whole


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"species": []},
        {"species": ["Xx"]},
        {"min_atoms": 5, "max_atoms": 4},
        {"energy_per_atom": [1, 0]},
        {"max": 1},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FilterSettings(**given)


def test_a_file_of_ids_is_read_when_the_run_begins(tmp_path: Path, store: Store) -> None:
    (tmp_path / "ids.txt").write_text("s1\n\n  s2 \n")
    assert FILTER.pin(FilterSettings(drop_ids=str(tmp_path / "ids.txt")), store) == {"drop_ids": ["s1", "s2"]}
    assert FILTER.pin(FilterSettings(drop_ids=["s1"]), store) == {}
    with pytest.raises(NotFoundError, match=r"no file .*lost\.txt"):
        FILTER.pin(FilterSettings(drop_ids=str(tmp_path / "lost.txt")), store)


@pytest.mark.parametrize(
    ("name", "given", "kind", "columns", "message"),
    [
        ("filter", {"max_atoms": 3}, "images", {"pixels"}, "about structures"),
        ("filter", {"max_force": 3}, "structures", {"numbers"}, "needs the column 'forces'"),
        ("filter", {"drop_ids": ["a"]}, "images", {"pixels"}, None),
        ("neighbours", {"cutoff": 5}, "images", {"pixels"}, "those of atoms"),
        ("neighbours", {"cutoff": 5}, "structures", {"numbers"}, None),
        ("features", {"model": "a"}, "table", {"x"}, "no model gives features"),
        ("features", {"model": "a", "what": "embedding"}, "structures", {"numbers"}, "not the embedding"),
        ("features", {"model": "a"}, "structures", {"numbers"}, None),
        ("statistics", {}, "points", {"positions"}, None),
    ],
)
def test_what_a_step_lacks_is_said(
    name: str, given: dict[str, Any], kind: Any, columns: set[str], message: str | None
) -> None:
    found = STEPS[name].lacking(STEPS[name].settings(**given), kind, frozenset(columns))
    assert found is None if message is None else message in str(found)


@pytest.mark.parametrize("periodic", [False, True])
def test_stored_neighbours_are_those_that_ase_finds(periodic: bool) -> None:
    table = done(NEIGHBOURS, NeighbourSettings(cutoff=CUTOFF), structures(40, periodic=periodic)).table
    assert ("images" in table.column_names) == periodic
    for row in table.to_pylist():
        senders, receivers, images = neighbor_list("ijS", atoms_of(row), CUTOFF)
        edges = np.reshape(row["edges"], (-1, 2))
        found = np.reshape(row["images"], (-1, 3)) if periodic else np.zeros((len(edges), 3))
        expected = {(int(i), int(j), *map(int, s)) for i, j, s in zip(senders, receivers, images, strict=True)}
        assert {(int(i), int(j), *map(int, s)) for (i, j), s in zip(edges, found, strict=True)} == expected
        assert len(edges) == len(expected)
    assert sum(len(row["edges"]) for row in table.to_pylist()) > 400


@pytest.mark.parametrize("periodic", [False, True])
def test_a_batch_from_stored_neighbours_is_the_batch_that_finds_them(periodic: bool) -> None:
    plain = structures(30, periodic=periodic)
    stored = done(NEIGHBOURS, NeighbourSettings(cutoff=CUTOFF), plain).table
    form = StructureForm(cutoff=CUTOFF)
    assert "edges" in form.columns(stored.schema)
    assert "edges" not in StructureForm(cutoff=CUTOFF + 0.1).columns(stored.schema)
    shuffled = np.random.default_rng(0).permutation(30)
    decoded = (form.decode(table.select(form.columns(table.schema))) for table in (plain, stored))
    one, other = (form.batch(form.prepare(rows.take(shuffled))).graph for rows in decoded)
    for name in ("edges", "shifts", "positions", "owner"):
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=0, atol=0)


def test_neighbours_of_another_cutoff_are_replaced() -> None:
    near = done(NEIGHBOURS, NeighbourSettings(cutoff=1.5), structures(10)).table
    far = done(NEIGHBOURS, NeighbourSettings(cutoff=CUTOFF), near).table
    assert far.column_names == near.column_names
    assert far.schema.field("edges").metadata[b"cutoff"] == b"3.0"
    assert far.equals(done(NEIGHBOURS, NeighbourSettings(cutoff=CUTOFF), structures(10)).table)


def test_atoms_that_coincide_are_told_by_the_id_of_their_structure() -> None:
    made = [Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, d]])) for d in (1.0, 0.0)]
    table = table_of(pa.array(["good", "bad"]), structure_columns(made), "train")
    with pytest.raises(UserError, match=r"structure 'bad' has no neighbour list: .*coincide"):
        done(NEIGHBOURS, NeighbourSettings(cutoff=2), table)


def test_a_lattice_that_is_far_too_small_is_refused() -> None:
    tiny = Structure(np.array([1]), np.zeros((1, 3)), np.diag([0.01, 50, 50]), np.ones(3, dtype=bool))
    table = table_of(pa.array(["a"]), structure_columns([tiny]), "train")
    with pytest.raises(UserError, match=r"reaches .* cells away"):
        done(NEIGHBOURS, NeighbourSettings(cutoff=2), table)


def potential(store: Store, folder: Path, **settings: Any) -> None:
    species = [1, 6, 8, 29]
    facts = {"species": species, "reference_energies": [-5.0, -8, -20, -3], "force_rms": 1.0, "mean_neighbours": 9.0}
    embedding = {"radial": {"name": "bessel", "params": {"number": 4}}}
    params = {"lmax": 1, "channels": 2, "layers": 1, "cutoff": CUTOFF, **settings}
    description = ModelDescription("gaunt_potential", params, embedding, facts)
    torch.manual_seed(0)
    model = assemble(description)
    for parameter in model.parameters():  # its last layer begins with zeros, which would predict no force at all
        torch.nn.init.normal_(parameter, std=0.6)
    save_model(folder / "model", model, description)
    publish_model(store, "teacher", folder / "model", {"run": "r0"})


def transformer(store: Store, folder: Path) -> None:
    facts = {"shape": [1, 4, 4], "mean": [0.5], "std": [0.5]}
    params = {"dim": 8, "layers": 1, "heads": 1, "patch": 2, "tap": 1}
    description = ModelDescription("diffusion_transformer", params, {}, facts)
    torch.manual_seed(0)
    model: Any = assemble(description)
    model.redraw_zero_init()
    save_model(folder / "model", model, description)
    publish_model(store, "seer", folder / "model", {"run": "r0"})


@pytest.mark.parametrize("periodic", [False, True])
def test_a_teacher_says_what_the_model_says_of_each_structure_alone(
    periodic: bool, store: Store, tmp_path: Path
) -> None:
    potential(store, tmp_path)
    table = structures(11, periodic=periodic, far=1000.0)  # far from the origin, where float32 would lose its digits
    settings = FeatureSettings(model="teacher@1", batch=4)
    taught = done(FEATURES, settings, table, store).table
    local, frames = local_model(store, "teacher@1", tmp_path / "local"), frames_of(table)
    scale = np.abs(np.concatenate(taught["teacher_forces"].to_pylist())).max()
    assert scale > 1e-2
    for row, told in enumerate(taught.to_pylist()):
        lattice = None if frames.lattices is None else [frames.lattices[row]]
        said = local.energy_forces([frames.numbers[row]], [frames.positions[row]], lattice)
        assert told["teacher_energy"] == pytest.approx(said.energies[0], rel=1e-5, abs=1e-5 * scale)
        np.testing.assert_allclose(np.reshape(told["teacher_forces"], (-1, 3)), said.forces[0], atol=1e-5 * scale)
    assert taught.schema.field("teacher_energy").metadata == {b"unit": b"eV", b"model": b"teacher@1"}
    assert FEATURES.pin(FeatureSettings(model="teacher"), store) == {"model": "teacher@1"}


def test_a_teacher_is_told_the_charge_and_spin_of_each_structure(store: Store, tmp_path: Path) -> None:
    potential(store, tmp_path, charge_spin=True)
    table = structures(6)
    charges, spins = [0.0, 1.0, None, -1.0, 0.0, 2.0], [1, 2, 1, 2, 3, None]
    told = table.append_column("charge", pa.array(charges, pa.float64())).append_column("spin", pa.array(spins))
    settings = FeatureSettings(model="teacher@1", batch=4)
    taught = done(FEATURES, settings, told, store).table
    model: Any = load_model(tmp_path / "model")
    for row, said in enumerate(taught.to_pylist()):
        atoms = atoms_of(said)
        alone = Graph.of(atoms.numbers, atoms.positions - atoms.positions.mean(axis=0), CUTOFF)
        alone = replace(alone, charge=charges[row] or 0.0, spin=spins[row] or 1)
        wanted = model(AtomGraph.collate([alone]).to(dtype=torch.float32))
        assert said["teacher_energy"] == pytest.approx(float(wanted.energy), abs=1e-4)
        forces = np.reshape(said["teacher_forces"], (-1, 3))
        np.testing.assert_allclose(forces, wanted.forces, atol=1e-4)
    untold = done(FEATURES, settings, table, store).table
    differences = np.abs(taught["teacher_energy"].to_numpy() - untold["teacher_energy"].to_numpy())
    assert list(differences > 1e-2) == [False, True, False, True, True, True]


@pytest.mark.parametrize("byte", [False, True])
def test_features_of_images_are_those_of_each_image_alone(byte: bool, store: Store, tmp_path: Path) -> None:
    transformer(store, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 1, 4, 4)).astype(np.uint8)
    floats = pixels.astype(np.float32) / 255
    images = [ImageRow(str(i), (pixels if byte else floats)[i], 0, str(i), "train") for i in range(7)]
    table = image_table(images, (1, 4, 4))
    found = done(FEATURES, FeatureSettings(model="seer@1", batch=3), table, store, "images").table["feature_seer"]
    local = local_model(store, "seer@1", tmp_path / "local")
    expected = np.concatenate([local.embed(floats[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(tensor_numpy(found), expected, atol=1e-5)
    assert tensor_numpy(found).dtype == np.float32
    assert np.ptp(expected, axis=0).max() > 1e-3


def test_a_model_of_another_task_is_refused(store: Store, tmp_path: Path) -> None:
    transformer(store, tmp_path)
    with pytest.raises(UserError, match="model seer@1 gives no prediction"):
        done(FEATURES, FeatureSettings(model="seer@1"), structures(3), store)
    with pytest.raises(NotFoundError, match="no model 'nobody'"):
        FEATURES.pin(FeatureSettings(model="nobody"), store)


@pytest.mark.parametrize("kind", ["structures", "images"])
def test_partial_figures_come_back_from_json_without_losing_a_digit(kind: Any) -> None:
    pixels = np.random.default_rng(0).random((9, 2, 3, 3)).astype(np.float32)
    pictures = pa.table({"pixels": tensor_array(pixels), "label": pa.array(range(9))})
    table = structures(20) if kind == "structures" else pictures
    part = measure(table, kind)
    again = figures.from_json(figures.to_json(part))
    parts = [("train", measure(table, kind)), ("train", part)]
    assert describe(merge([("train", again), ("train", again)]), kind) == describe(merge(parts), kind)
