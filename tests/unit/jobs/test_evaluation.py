"""Figures of an evaluation against closed forms, with predictors that are right, wrong, or broken on purpose."""

import json
from collections.abc import Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from cluster.context import RunContext
from cluster.dataset.publish import publish_dataset
from cluster.dataset.tensors import tensor_array
from cluster.errors import ClusterError, NotFoundError, UserError
from cluster.progress import Progress
from cluster.registry import publish_model
from cluster.session import Session
from cluster.store import Store, open_store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import save_model
from jobs.evaluate import run
from jobs.evaluation.address import endpoint_url
from jobs.evaluation.endpoint import Endpoint, read_token
from jobs.evaluation.frames import Frames, Prediction, frames_of
from jobs.evaluation.metrics import energy_mae_per_atom, force_mae, force_mean_abs, training_mean
from jobs.evaluation.rotation import rotation_errors
from jobs.ingest.rows import ImageRow, StructureRow, image_table, structure_table
from jobs.report.sources import read_predictions
from jobs.spec.evaluate import EvaluateSpec

WATER = np.array([8, 1, 1])


def rows(count: int, split: str = "test", seed: int = 0) -> list[StructureRow]:
    rng = np.random.default_rng(seed)
    rest = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    return [
        StructureRow(
            id=f"{split}-{i}",
            numbers=WATER,
            positions=rest + 0.05 * rng.normal(size=(3, 3)),
            energy=-30.0 + float(rng.normal()),
            forces=rng.normal(size=(3, 3)),
            group=f"{split}-{i}",
            split=split,
        )
        for i in range(count)
    ]


def frames(count: int = 5) -> Frames:
    return frames_of(structure_table(rows(count)))


def springs(
    numbers: Sequence[NDArray[Any]], positions: Sequence[NDArray[Any]], lattices: Any = None, states: Any = None
) -> Prediction:
    """Forces towards the centroid: exactly equivariant."""
    forces = [r.mean(axis=0) - r for r in positions]
    return Prediction(np.array([float((f**2).sum()) / 2 for f in forces]), forces)


def test_errors_are_means_over_structures_and_components() -> None:
    reference = frames(4)
    assert energy_mae_per_atom(reference, reference.energies + np.array([0.3, -0.3, 0.6, 0.0])) == pytest.approx(0.1)
    assert force_mae(reference, [f + 0.25 for f in reference.forces]) == pytest.approx(0.25)
    assert force_mean_abs(reference) == pytest.approx(force_mae(reference, [np.zeros((3, 3))] * 4))


def test_the_training_mean_knows_the_energy_per_atom_and_the_mean_force_only() -> None:
    train = frames_of(structure_table(rows(6, "train", seed=1)))
    mean = training_mean(train, frames(2))
    assert mean.energies[0] == pytest.approx(train.energies.mean())
    np.testing.assert_allclose(mean.forces[1][2], np.concatenate(train.forces).mean(axis=0))


def test_an_equivariant_predictor_passes_the_rotation_check() -> None:
    forces, energy = rotation_errors(springs, frames(), seed=0)
    assert forces < 1e-12
    assert energy < 1e-12


def test_a_predictor_that_prefers_an_axis_is_caught() -> None:
    def tilted(numbers: Any, positions: Any, lattices: Any, states: Any) -> Prediction:
        plain = springs(numbers, positions)
        return Prediction(plain.energies, [f * np.array([1.0, 1.0, 1.001]) for f in plain.forces])

    forces, _ = rotation_errors(tilted, frames(), seed=0)
    assert 1e-4 < forces < 1e-2


def test_an_energy_that_depends_on_orientation_is_caught() -> None:
    def leaning(numbers: Any, positions: Any, lattices: Any, states: Any) -> Prediction:
        return Prediction(np.array([r[0, 2] for r in positions]), springs(numbers, positions).forces)

    assert rotation_errors(leaning, frames(), seed=0)[1] > 1e-2


def crystals() -> Frames:
    """The frames in cells of 4 angstrom, a chain along x and a crystal."""
    cells = np.repeat(4.0 * np.eye(3)[None], 2, axis=0)
    pbc = np.array([[1, 0, 0], [1, 1, 1]], dtype=np.uint8)
    table = structure_table(rows(2))
    return frames_of(table.append_column("cell", tensor_array(cells)).append_column("pbc", tensor_array(pbc)))


def test_cells_turn_with_the_atoms_in_them() -> None:
    def pulled(numbers: Any, positions: Any, lattices: Any, states: Any) -> Prediction:
        """Forces along the lattice vectors that repeat."""
        forces = [
            np.tile(cell[pbc].sum(axis=0), (len(r), 1)) for r, (cell, pbc) in zip(positions, lattices, strict=True)
        ]
        return Prediction(np.zeros(len(forces)), forces)

    def fixed(numbers: Any, positions: Any, lattices: Any, states: Any) -> Prediction:
        return pulled(numbers, positions, crystals().lattices, states)

    assert rotation_errors(pulled, crystals(), seed=0)[0] < 1e-12
    assert rotation_errors(fixed, crystals(), seed=0)[0] > 0.1


def test_an_endpoint_is_not_asked_for_what_it_would_take_for_a_molecule() -> None:
    asked = crystals()
    with springs_endpoint() as endpoint, pytest.raises(UserError, match="no periodic structures"):
        endpoint.energy_forces(asked.numbers, asked.positions, asked.lattices)


def ions() -> pa.Table:
    """A neutral singlet, an anion, a cation, a triplet; two of them say half of it."""
    table = structure_table(rows(4)).append_column("charge", pa.array([None, -1.0, 1.0, 0.0]))
    return table.append_column("spin", pa.array([1, 2, None, 3]))


IONS = [(0.0, 1), (-1.0, 2), (1.0, 1), (0.0, 3)]


def test_frames_know_their_charges_and_spins_and_parts_keep_them() -> None:
    told = frames_of(ions())
    assert told.states == IONS
    assert (told.first(2).states, told.part(1, 3).states) == (IONS[:2], IONS[1:3])
    assert frames_of(ions().drop_columns(["charge"])).states == [(0.0, 1), (0.0, 2), (0.0, 1), (0.0, 3)]
    assert frames_of(ions().drop_columns(["charge", "spin"])).states is None


def test_a_turned_ion_is_still_that_ion() -> None:
    def charged(numbers: Any, positions: Any, lattices: Any, states: Any) -> Prediction:
        plain = springs(numbers, positions)
        return Prediction(plain.energies + np.array([charge for charge, _ in states]), plain.forces)

    assert rotation_errors(charged, frames_of(ions()), seed=0)[1] < 1e-12


def test_an_endpoint_is_not_asked_for_ions_unless_its_model_makes_no_difference() -> None:
    asked = frames_of(ions())
    with springs_endpoint() as endpoint:
        endpoint.energy_forces(asked.numbers[:1], asked.positions[:1], None, IONS[:1])
        with pytest.raises(UserError, match="no charges and spins yet") as refused:
            endpoint.energy_forces(asked.numbers, asked.positions, None, asked.states)
    assert refused.value.hint == "evaluate the model itself: model: springs@1"

    def indifferent(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"model": "springs@1", "facts": {"charge_spin": False}})
        return answering(request)

    transport = httpx.MockTransport(indifferent)
    with Endpoint("http://springs", token="right", batch=2, transport=transport) as endpoint:
        assert len(endpoint.energy_forces(asked.numbers, asked.positions, None, asked.states).energies) == 4


def answering(request: httpx.Request) -> httpx.Response:
    """An endpoint of springs that wants a token."""
    if request.headers.get("authorization") != "Bearer right":
        return httpx.Response(401, json={"error": {"code": "no_token", "message": "who are you?", "where": []}})
    if request.url.path == "/v1/model":
        return httpx.Response(200, json={"model": "springs@1"})
    structures = json.loads(request.content)["structures"]
    if any(79 in one["numbers"] for one in structures):
        message = {"code": "unknown_species", "message": "79 (Au) was not in the training data", "where": []}
        return httpx.Response(422, json={"error": message})
    assert len(structures) <= 2, "more rows in a request than asked for"
    answer = springs([], [np.array(one["positions"]) for one in structures])
    results = [{"energy": e, "forces": f.tolist()} for e, f in zip(answer.energies, answer.forces, strict=True)]
    return httpx.Response(200, json={"model": "springs@1", "units": {}, "results": results})


def springs_endpoint(token: str | None = "right") -> Endpoint:
    return Endpoint("http://springs", token=token, batch=2, transport=httpx.MockTransport(answering))


def test_an_endpoint_answers_as_the_model_behind_it_does() -> None:
    asked = frames(5)
    with springs_endpoint() as endpoint:
        answer = endpoint.energy_forces(asked.numbers, asked.positions)
        assert (endpoint.model, endpoint.name) == ("springs@1", "springs@1 at http://springs")
    expected = springs(asked.numbers, asked.positions)
    np.testing.assert_array_equal(answer.energies, expected.energies)
    np.testing.assert_array_equal(np.concatenate(answer.forces), np.concatenate(expected.forces))


@pytest.mark.parametrize("token", [None, "wrong"])
def test_an_endpoint_that_refuses_the_token_is_a_clear_error(token: str | None) -> None:
    with pytest.raises(UserError, match="refuses the token"):
        springs_endpoint(token)


def test_the_endpoints_own_words_reach_the_user() -> None:
    with springs_endpoint() as endpoint, pytest.raises(UserError, match=r"422: 79 \(Au\) was not"):
        endpoint.energy_forces([np.array([79, 79])], [np.eye(3)[:2]])


def test_an_endpoint_that_is_not_there_is_a_clear_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with pytest.raises(ClusterError, match="no answer from http://nobody/v1/model: connection refused"):
        Endpoint("http://nobody", transport=httpx.MockTransport(refuse))


def test_a_page_that_is_no_endpoint_is_a_clear_error() -> None:
    with pytest.raises(UserError, match="does not answer in JSON"):
        Endpoint("http://page", transport=httpx.MockTransport(lambda _: httpx.Response(200, text="<html>")))


def test_the_token_is_the_first_line_that_is_no_comment(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("# of the endpoint\n\n  secret-word  \nanother\n")
    assert read_token(str(path)) == "secret-word"
    assert read_token(None) is None
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="holds no token"):
        read_token(str(path))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def context(store: Store, workdir: Path) -> RunContext:
    progress = Progress(console=Console(file=StringIO()), store=store, run_id="r1")
    return RunContext("r1", store, progress, workdir, False, lambda: False, Session("", embedded=True))


def test_an_endpoint_is_found_by_its_name_or_address(store: Store) -> None:
    store.write("endpoints/water/record.json", b'{"url": "http://127.0.0.1:8000/"}')
    assert endpoint_url(store, "water") == "http://127.0.0.1:8000"
    assert endpoint_url(store, "https://host/prefix/") == "https://host/prefix"
    with pytest.raises(NotFoundError, match="no endpoint is called 'watr'"):
        endpoint_url(store, "watr")


def test_a_published_potential_is_evaluated_beside_the_training_mean(store: Store, tmp_path: Path) -> None:
    table = structure_table([*rows(8, "train", seed=1), *rows(4)])
    publish_dataset(store, "water", table, kind="structures", provenance={})
    _publish_potential(store, tmp_path)
    data = {"uri": "water@1", "split": "test"}
    spec = EvaluateSpec.model_validate({"kind": "evaluate", "name": "a", "data": data, "model": "water@1", "batch": 3})
    outputs = run(spec, context(store, tmp_path))
    figures = outputs["metrics"]
    assert (outputs["model"], outputs["dataset"], figures["structures"]) == ("water@1", "water@1", 4)
    assert figures["rotation_rel_error"] < 1e-4
    tested = frames_of(structure_table(rows(4)))
    assert figures["force_mean_abs_ev_per_ang"] == pytest.approx(force_mean_abs(tested))
    assert figures["baseline_force_mae_ev_per_ang"] > 0
    written = read_predictions(store, outputs["predictions"])
    assert written is not None
    error = np.mean(np.abs(written.forces - written.predicted_forces))
    assert figures["force_mae_ev_per_ang"] == pytest.approx(error)
    error = np.mean(np.abs(written.energies - written.predicted_energies))
    assert figures["energy_mae_per_atom_ev"] == pytest.approx(error)


@pytest.mark.parametrize("charge_spin", [True, False])
def test_a_potential_is_told_charge_and_spin_where_it_asks(charge_spin: bool, store: Store, tmp_path: Path) -> None:
    plain = structure_table(rows(4))
    publish_dataset(store, "water", plain, kind="structures", provenance={})
    charges, spins = zip(*IONS, strict=True)
    whole = plain.append_column("charge", pa.array(charges)).append_column("spin", pa.array(spins))
    publish_dataset(store, "ions", whole, kind="structures", provenance={})
    _publish_potential(store, tmp_path, charge_spin=charge_spin)
    said = {}
    for name in ("ions", "water"):
        document = {"kind": "evaluate", "name": "a", "model": "water@1", "batch": 3, "rotations": 4}
        spec = EvaluateSpec.model_validate({**document, "data": {"uri": f"{name}@1", "split": "test"}})
        outputs = run(spec, context(store, tmp_path))
        assert outputs["metrics"]["rotation_energy_error_ev"] < 1e-3
        said[name] = pq.read_table(BytesIO(store.read(outputs["predictions"])))
    of_ions, of_water = (said[name].sort_by("id")["predicted_energy"].to_numpy() for name in ("ions", "water"))
    differ = np.abs(of_ions - of_water) > 1e-2
    assert differ.tolist() == ([False, True, True, True] if charge_spin else [False] * 4)


def test_a_potential_asked_for_embeddings_says_that_it_cannot(store: Store, tmp_path: Path) -> None:
    _pictures(store)
    _publish_transformer(store, tmp_path)
    table = structure_table([*rows(3, "train"), *rows(2)])
    publish_dataset(store, "water", table, kind="structures", provenance={})
    data = {"uri": "water@1", "split": "test"}
    spec = EvaluateSpec.model_validate({"kind": "evaluate", "name": "a", "data": data, "model": "pictures@1"})
    with pytest.raises(UserError, match="does not predict energies and forces"):
        run(spec, context(store, tmp_path))


def test_embeddings_are_probed_beside_raw_pixels_and_an_untrained_twin(store: Store, tmp_path: Path) -> None:
    _pictures(store)
    _publish_transformer(store, tmp_path)
    data = {"uri": "pictures@1", "split": "test"}
    spec = EvaluateSpec.model_validate({"kind": "evaluate", "name": "a", "data": data, "model": "pictures@1"})
    figures = run(spec, context(store, tmp_path))["metrics"]
    assert figures["raw_pixels_accuracy"] == 1.0, "bright left halves and bright right halves can be told apart"
    assert figures["dimensions"] == 8
    assert figures["raw_pixels_knn_accuracy"] == 1.0
    assert 0 <= figures["untrained_accuracy"] <= 1
    assert 0 <= figures["untrained_knn_accuracy"] <= 1
    assert 0 <= figures["linear_probe_accuracy"] <= 1


def _publish_potential(store: Store, folder: Path, **settings: Any) -> None:
    facts = {"species": [1, 8], "reference_energies": [-5.0, -20.0], "force_rms": 1.0, "mean_neighbours": 2.0}
    params = {"lmax": 1, "channels": 2, "layers": 1, "cutoff": 3.0, **settings}
    embedding = {"radial": {"name": "bessel", "params": {"number": 4}}}
    description = ModelDescription("gaunt_potential", params, embedding, facts)
    torch.manual_seed(0)
    model = assemble(description)
    for parameter in model.parameters():  # its last layer begins with zeros, which would predict no force at all
        torch.nn.init.normal_(parameter, std=0.5)
    save_model(folder / "model", model, description)
    publish_model(store, "water", folder / "model", {"run": "r0"})


def _pictures(store: Store) -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for i in range(40):
        pixels = 0.1 * rng.random((1, 4, 4))
        pixels[:, :, :2] += i % 2
        split = "test" if i % 4 < 2 else "train"
        pictures.append(ImageRow(str(i), pixels.astype(np.float32), i % 2, str(i), split))
    publish_dataset(store, "pictures", image_table(pictures, (1, 4, 4)), kind="images", provenance={})


def _publish_transformer(store: Store, folder: Path) -> None:
    facts = {"shape": [1, 4, 4], "mean": [0.5], "std": [0.5]}
    params = {"dim": 8, "layers": 1, "heads": 1, "patch": 2, "tap": 1}
    description = ModelDescription("diffusion_transformer", params, {}, facts)
    torch.manual_seed(0)
    save_model(folder / "transformer", assemble(description), description)
    publish_model(store, "pictures", folder / "transformer", {"run": "r0"})
