"""From a saved model, untrained and tiny, to a predictor; and what its files must say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.errors import UserError
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import CheckpointError, save_model
from equimodels.models.images import image_facts
from serve.capability import tasks_of
from serve.predictors.energy import EnergyForces, EnergyPredictor
from serve.predictors.loading import load_predictor
from serve.schemas import StructureIn

POTENTIAL = ModelDescription(
    name="gaunt_potential",
    params={"lmax": 1, "channels": 4, "layers": 1, "cutoff": 4.0},
    embedding={"radial": {"name": "bessel", "params": {"number": 4}}},
    facts={
        "species": [1, 8],
        "reference_energies": [-13.0, -2042.0],
        "force_rms": 1.0,
        "force_mean_abs": 0.7,
        "energy_rms_per_atom": 0.1,
        "mean_neighbours": 5.0,
    },
)


def saved(folder: Path, description: ModelDescription) -> Path:
    torch.manual_seed(0)
    save_model(folder, assemble(description), description)
    return folder


def test_a_potential_answers_with_its_reference_energies(tmp_path: Path, make_spec: Any) -> None:
    model = load_predictor(saved(tmp_path, POTENTIAL), make_spec(), model="m@1", device="cpu")
    assert isinstance(model, EnergyPredictor)
    alone = [model.prepare(StructureIn(numbers=[n], positions=[[0.0, 0.0, 0.0]])) for n in (1, 8)]
    answers = model.predict([*alone, model.probe()])
    assert [a.energy for a in answers if isinstance(a, EnergyForces)][:2] == pytest.approx([-13.0, -2042.0])
    assert model.facts["species"] == [1, 8]
    assert model.facts["cutoff_ang"] == 4.0
    assert model.facts["charge_spin"] is False, "or an evaluation would not send it ions"


def test_a_diffusion_transformer_embeds(tmp_path: Path, make_spec: Any) -> None:
    images = np.random.default_rng(0).uniform(size=(4, 1, 8, 8))
    description = ModelDescription(
        name="diffusion_transformer",
        params={"dim": 16, "heads": 2, "layers": 2, "tap": 1},
        embedding={},
        facts=image_facts(images),
    )
    spec = make_spec(task="embed", model="digits@prod", batching={"max_pixels": 1000})
    model = load_predictor(saved(tmp_path, description), spec, model="digits@1", device="cpu")
    vectors = model.predict([model.prepare(image.tolist()) for image in images])
    assert all(np.linalg.norm(vector) == pytest.approx(1) for vector in vectors)
    assert model.facts["dim"] == 16
    assert model.facts["space"] == f"digits-{model.facts['weights_sha256'][:12]}"


def test_a_model_that_cannot_do_the_task_is_refused(tmp_path: Path, make_spec: Any) -> None:
    with pytest.raises(UserError, match="m@1 cannot serve task embed"):
        load_predictor(saved(tmp_path, POTENTIAL), make_spec(task="embed", batching={}), model="m@1", device="cpu")


def test_damaged_weights_are_not_served(tmp_path: Path, make_spec: Any) -> None:
    weights = saved(tmp_path, POTENTIAL) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError):
        load_predictor(tmp_path, make_spec(), model="m@1", device="cpu")


def test_the_tasks_of_a_model_follow_from_its_facts() -> None:
    assert tasks_of(POTENTIAL.facts) == ("energy_forces",)
    assert tasks_of({"shape": [1, 8, 8], "mean": [0.0], "std": [1.0]}) == ("embed",)
    assert tasks_of({}) == ()
